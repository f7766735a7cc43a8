"""A real Prometheus with the platform's rules, on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from components.observability import alerts
from components.services.registry import SERVICES
from local.toolchain import promtool
from service_images.ports import free_port
from service_images.router.tests.conftest import until


@contextmanager
def running(
    folder: Path, more: Sequence[dict[str, Any]], targets: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """(URL, process) of a server, once it has evaluated `more`, rules beside the platform's.

    `targets`: host:port of each server whose metrics it scrapes.
    """
    port, names = free_port(), frozenset(SERVICES)
    groups = alerts.rules("cogniforge", names, SERVICES.values())["groups"]
    own = {"name": "own", "interval": "200ms", "rules": list(more)}
    (folder / "rules.yml").write_text(json.dumps({"groups": [*groups, own]}))
    scraped = {"job_name": "router", "scrape_interval": "1s", "static_configs": [{"targets": [*targets]}]}
    content = {"rule_files": [f"{folder}/rules.yml"], "scrape_configs": [scraped] if targets else []}
    (folder / "prometheus.yml").write_text(json.dumps(content))
    command = [str(promtool.resolve().with_name("prometheus")), f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/metrics", f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: '"firing"' in _read(f"{url}/api/v1/rules"), 60)
            yield url, process
        finally:
            process.terminate()


def _read(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.TransportError:
        return ""
