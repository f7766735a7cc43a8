"""Golden files: texts as users see them; `UPDATE_GOLDEN=1 pytest ...` rewrites them."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def assert_golden(name: str, text: str) -> None:
    file = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text(), f"differs from {file}; if that is meant: UPDATE_GOLDEN=1"
