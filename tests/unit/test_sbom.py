"""Go modules are read from a binary itself, so that an image with cached tools is built without Go on PATH."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.images.sbom import go_modules

MAGIC = b"\xff Go buildinf:"
BEGIN, END = b"0w\xaf\x0c\x92t\x08\x02A\xe1\xc1\x07\xe6\xd6\x18\xe6", b"\xf92C1\x86\x18 r\x00\x82B\x10A\x16\xd8\xf2"
WORD = st.text(st.characters(categories=["L", "N"], include_characters="./-"), min_size=1, max_size=60)


def _text(content: bytes) -> bytes:
    length, found = len(content), bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        found.append(low | (0x80 if length else 0))
        if not length:
            return bytes(found) + content


def _binary(lines: list[str], padding: int = 1) -> bytes:
    """A binary that also holds the magic as a constant of a program, which is no record."""
    record = BEGIN + "".join(f"{line}\n" for line in lines).encode() + END
    head = (b"\x7fELF" + MAGIC + b"constant").ljust(16 * padding + 16, b"\0")
    return head + MAGIC + b"\x08\x02" + bytes(16) + _text(b"go1.26.0") + _text(record) + b"tail"


@given(st.lists(st.tuples(WORD, WORD), max_size=20), st.integers(1, 9))
def test_each_dependency_is_found_with_its_version(dependencies: list[tuple[str, str]], padding: int) -> None:
    lines = ["path\tx/y", "mod\tx/y\t(devel)\t", *(f"dep\t{path}\t{version}\th1:" for path, version in dependencies)]
    assert list(go_modules(_binary([*lines, "build\t-compiler=gc"], padding))) == dependencies


def test_a_replaced_module_is_listed_with_what_replaces_it() -> None:
    found = go_modules(_binary(["dep\ta/b\tv1.0.0", "=>\tc/d\tv2.0.0\th1:x"]))
    assert list(found) == [("a/b", "v1.0.0"), ("c/d", "v2.0.0")]


def test_a_binary_without_a_record_is_refused() -> None:
    with pytest.raises(ValueError, match="no record"):
        list(go_modules(b"\x7fELF" + bytes(100) + MAGIC))
