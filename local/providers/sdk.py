"""SDKs of packages for Python: what the language host does for `pulumi package gen-sdk` and `pulumi package add`.

Pulumi's own generator, a Go library, writes the SDK. `package add` then adds the SDK's folder to the program's
`requirements.txt` and installs it in the program's virtual environment.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pulumi.runtime.proto import language_pb2

from local.errors import LocalError
from local.toolchain import builder
from local.toolchain.tools import ToolName

REQUIREMENTS = "requirements.txt"
_METADATA = "pulumi-plugin.json"
"""File in the import package of each SDK: it names the Pulumi plugin."""


def generate(request: language_pb2.GeneratePackageRequest) -> language_pb2.GeneratePackageResponse:
    """Write the SDK to the request's folder; mistakes of the schema are diagnostics. Raises LocalError."""
    program = builder.resolve(ToolName.PYTHON_SDK)
    result = subprocess.run([program], input=request.SerializeToString(), capture_output=True)
    if result.returncode != 0:
        raise LocalError("the Python SDK cannot be generated", reason=result.stderr.decode(errors="replace"))
    return language_pb2.GeneratePackageResponse.FromString(result.stdout)


def link(request: language_pb2.LinkRequest) -> language_pb2.LinkResponse:
    """Add the SDKs to the program's requirements; returns how to import them.

    Raises LocalError if the program has no virtual environment of its own to install them in.
    """
    root = Path(request.info.root_directory)
    require_environment(request.info)
    file = root / REQUIREMENTS
    lines = file.read_text().splitlines() if file.exists() else []
    imports: list[str] = []
    for linked in request.packages:
        requirement = f"./{linked.path}"
        if requirement not in (line.strip() for line in lines):
            lines.append(requirement)
        (metadata,) = (root / linked.path).glob(f"*/{_METADATA}")
        imports.append(f"import {metadata.parent.name} as {linked.package.name.replace('-', '_')}")
    file.write_text("\n".join(lines) + "\n")
    text = "The package is in the program's virtual environment. Import it with:\n\n  " + "\n  ".join(imports)
    return language_pb2.LinkResponse(import_instructions=text)


def require_environment(info: language_pb2.ProgramInfo) -> None:
    """Raise LocalError if the program names no virtual environment: it then runs in the platform's."""
    if not dict(info.options).get("virtualenv"):
        raise LocalError(
            "nothing can be installed for this program, because it has no virtual environment of its own",
            fix="make one with `python3 -m venv .venv`, and name it in Pulumi.yaml as `runtime.options.virtualenv`",
        )


def install(python: Path, folder: Path) -> Iterator[language_pb2.InstallDependenciesResponse]:
    """Install the requirements of the program in `folder`, and forward pip's output. Raises LocalError."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", REQUIREMENTS]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for name, data in output(process):
        yield language_pb2.InstallDependenciesResponse(**{name: data})
    if process.wait() != 0:
        raise LocalError(f"pip could not install {folder / REQUIREMENTS}", fix="see pip's messages above")


def output(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, bytes]]:
    """What the process writes, as it comes: "stdout" or "stderr", and the data."""
    written: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()

    def pass_on(name: str, stream: Any) -> None:
        while data := stream.read1(65536):
            written.put((name, data))
        written.put(None)

    streams = ("stdout", process.stdout), ("stderr", process.stderr)
    for stream in streams:
        threading.Thread(target=pass_on, args=stream, daemon=True).start()
    for _ in streams:
        while (one := written.get()) is not None:
            yield one
