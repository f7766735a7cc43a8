"""An image registry on this machine, as used with kind, k3d and minikube."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import urllib3
import yaml

from service_images.ports import free_port
from tests.waiting import until


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A registry with its blobs in a folder. Yields host:port."""
    address = f"localhost:{free_port()}"
    storage = {"filesystem": {"rootdirectory": str(folder / "blobs")}, "delete": {"enabled": True}}
    file = folder / "registry.yaml"
    file.write_text(yaml.safe_dump({"version": "0.1", "storage": storage, "http": {"addr": address}}))
    program = shutil.which("docker-registry")
    assert program, "the Debian packages of the local environment are installed"
    command = [program, "serve", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pool = urllib3.PoolManager(retries=False)

    def answers() -> bool:
        try:
            return pool.request("GET", f"http://{address}/v2/").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    try:
        until(answers, 30)
        yield address
    finally:
        process.terminate()
        process.wait()
