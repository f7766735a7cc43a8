"""`python tests/perf/bench_preview.py`: time and memory of previews, of prod and of synthetic stacks by size.

The peer is a program without resources in the same session: what the engine and Python cost before any resource. Needs
no cluster, credentials or network.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from local import paths
from local.toolchain import builder, shim, stack_files
from local.toolchain.tools import ToolName

SIZES = (250, 500, 1000, 2000)
PROGRAM = """
import pulumi
import pulumi_kubernetes as k8s
provider = k8s.Provider("cluster", kubeconfig="{}")
class Part(pulumi.ComponentResource):
    def __init__(self, number):
        super().__init__("synthetic:index:Part", f"part-{number}")
        own = pulumi.ResourceOptions(parent=self, provider=provider)
        for index in range(10):
            name = f"part-{number}-{index}"
            k8s.core.v1.ConfigMap(name, metadata={"name": name, "namespace": "default"}, data={"key": name}, opts=own)
for number in range(COUNT // 10):
    Part(number)
"""


def _tree_mib(root: psutil.Process) -> float:
    """Proportional memory of a process and its descendants."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def measured(command: list[str], folder: Path, env: dict[str, str]) -> tuple[float, float]:
    """(seconds, peak MiB) of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, root, done = [0.0], psutil.Process(process.pid), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            try:
                peak[0] = max(peak[0], _tree_mib(root))
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    done.set()
    watcher.join()
    assert process.returncode == 0, errors.decode()[-2000:]
    return time.perf_counter() - started, peak[0]


def main() -> None:
    """Print the figures as JSON."""
    pulumi = str(builder.resolve(ToolName.PULUMI))
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        env = shim.environment() | {
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "a bench",
            "KUBECONFIG": str(folder / "none"),
        }
        env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        program = folder / "synthetic"
        program.mkdir()
        (program / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "synthetic", "runtime": "python"}))
        preview = [pulumi, "preview", "--non-interactive", "--stack", "bench"]
        subprocess.run([pulumi, "stack", "init", "bench"], cwd=program, env=env, check=True, capture_output=True)
        times: dict[int, float] = {}
        for count in (0, *SIZES):
            (program / "__main__.py").write_text(PROGRAM.replace("COUNT", str(count)))
            times[count], mib = measured(preview, program, env)
            figures[f"synthetic, {count} resources"] = {"s": round(times[count], 1), "peak MiB": round(mib)}
        each = {count: (times[count] - times[0]) / count * 1000 for count in SIZES}
        figures["ms a resource"] = {str(count): round(value, 1) for count, value in each.items()}
        figures["2000 against 500, a resource"] = round(each[2000] / each[500], 2)
        figures["2000 resources, ratio to the peer (an empty program)"] = round(times[2000] / times[0], 1)
        subprocess.run([pulumi, "stack", "init", "prod"], cwd=paths.PROJECT, env=env, check=True, capture_output=True)
        command = [pulumi, "preview", "--non-interactive", "--stack", "prod"]
        command += ["--policy-pack", str(paths.PROJECT / "policies" / "crossguard")]
        seconds, mib = measured(command, paths.PROJECT, env)
        figures["prod with policies"] = {"s": round(seconds, 1), "peak MiB": round(mib)}
        figures["prod, ratio to the peer (an empty program)"] = round(seconds / times[0], 1)
        stack_files.forget_salt(paths.PROJECT / "stacks")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    os.umask(0o077)
    main()
