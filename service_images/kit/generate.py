"""Makes the Python modules of kit/protos: `python service_images/kit/generate.py`."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent


def generate(into: Path) -> None:
    """Write them below `into`."""
    protos = sorted(str(path.relative_to(HERE / "protos")) for path in (HERE / "protos").rglob("*.proto"))
    included = resources.files("grpc_tools") / "_proto"
    options = [
        f"-I{HERE / 'protos'}",
        f"-I{included}",
        f"--python_out={into}",
        f"--pyi_out={into}",
        f"--grpc_python_out={into}",
    ]
    if protoc.main(["protoc", *options, *protos]) != 0:
        raise SystemExit("protoc has failed")


if __name__ == "__main__":
    generate(HERE / "src")
    sys.exit(0)
