"""The gRPC protocols: valid, compatible with deployed clients, and with current generated modules."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KIT = Path(__file__).resolve().parents[1]
PROTOS = KIT / "protos"


def buf(*arguments: str, folder: Path = PROTOS) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("buf")
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def test_buf_lint_passes() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_deployed_clients_stay_compatible() -> None:
    done = buf("breaking", "--against", "released.binpb")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [("string text = 3;", "int64 text = 3;"), ("bool last = 4;", ""), ("uint32 tokens = 2;", "uint32 used = 2;")],
)
def test_a_breaking_change_is_seen(tmp_path: Path, before: str, after: str) -> None:
    copy = shutil.copytree(PROTOS, tmp_path / "protos")
    for path in copy.rglob("*.proto"):
        path.write_text(path.read_text().replace(before, after))
    assert buf("breaking", "--against", "released.binpb", folder=copy).returncode != 0


def test_the_modules_are_current(tmp_path: Path) -> None:
    sys.path.insert(0, str(KIT))
    from generate import generate

    generate(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}
    kept = {
        p.relative_to(KIT / "src"): p.read_text()
        for p in (KIT / "src" / "cogniforge").rglob("*.py*")
        if p.suffix in (".py", ".pyi")
    }
    assert made == kept, "run `make protos`"
