"""The password of the signing key stays out of environments and arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.images import cosign
from local.toolchain import builder

_PROGRAM = """#!/bin/sh
{ tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' '\\n' < /proc/$$/cmdline; } > "$TUF_ROOT.seen"
cat > "$TUF_ROOT.input"
touch cosign.key cosign.pub
"""


def test_cosign_reads_the_password_from_its_input_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path))
    monkeypatch.setenv("COSIGN_PASSWORD", "of another key")
    program = tmp_path / "cosign"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr(builder, "resolve", lambda _: program)
    cosign.ensure_key()
    password = (cosign.keys() / "cosign.password").read_text()
    assert (cosign.keys() / "tuf.input").read_text() == password
    seen = (cosign.keys() / "tuf.seen").read_text()
    assert "generate-key-pair" in seen
    assert password not in seen
    assert "COSIGN_PASSWORD" not in seen
