"""Jobs of the tests of `kit/workers.py`, which run in worker processes."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any


def double(value: Any) -> Any:
    return value * 2


def pid() -> int:
    return os.getpid()


def spin() -> None:
    while True:
        pass


def sleep(seconds: float = 600.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes * 2**20))


def allocate_in_pieces() -> int:
    pieces = []
    while True:
        pieces.append("x" * 10_000)


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def refuse(message: str) -> None:
    raise ValueError(message)


def surrogate() -> str:
    return "a\ud83db"


def noisy() -> str:
    print("not an answer")
    os.write(1, b"nor this")
    return "answer"


def size(prefix: str, content: bytes) -> list[Any]:
    return [prefix, len(content), content[:1].decode()]


def environment() -> dict[str, str]:
    return dict(os.environ)


def write_file(path: str) -> None:
    Path(path).write_text("x")


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)
