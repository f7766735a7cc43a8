"""`python3 -m audit verify <file or folder> <key file>`: checks a log or an export, with nothing but what is there.

A file is a tenant's export; a folder is a copy of the whole log (`download`). One flipped bit anywhere is found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx

from audit import merkle, note, tiles
from audit.merkle import WIDTH


class Broken(Exception):
    """What is wrong with a log."""


def export(content: str, key: str) -> tuple[int, int]:
    """(entries, size of the log) of an export in which everything is right. Raises Broken."""
    lines = content.splitlines()
    try:
        checkpoint = note.verify(json.loads(lines[0])["checkpoint"], key)
    except (IndexError, KeyError, ValueError) as error:
        raise Broken(f"the checkpoint: {error}") from None
    for place, line in enumerate(lines[1:], 2):
        try:
            found: dict[str, Any] = json.loads(line)
            proof = [bytes.fromhex(text) for text in found["proof"]]
            entry, number = found["entry"].encode(), int(found["number"])
            told, shown = json.loads(found["entry"]), found["event"]
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Broken(f"line {place} cannot be read") from None
        if not merkle.verify_inclusion(entry, number, checkpoint.size, proof, checkpoint.root):
            raise Broken(f"line {place}: entry {number} is not in the log of the checkpoint")
        if any(shown.get(name) != told.get(name) for name in ("id", "source", "type", "time", "tenant")):
            raise Broken(f"line {place}: what is shown of entry {number} is not what was written")
    return len(lines) - 1, checkpoint.size


def folder(path: Path, key: str) -> int:
    """The size of a copied log in which everything is right. Raises Broken."""
    try:
        checkpoint = note.verify((path / "checkpoint").read_text(), key)
    except (OSError, ValueError) as error:
        raise Broken(f"the checkpoint: {error}") from None
    hashes: list[bytes] = []
    for number in range(-(-checkpoint.size // WIDTH)):
        width = min(WIDTH, checkpoint.size - number * WIDTH)
        name = f"{tiles.path_of(number)}{'' if width == WIDTH else f'.p/{width}'}"
        try:
            entries = tiles.unbundle((path / "tile/entries" / name).read_bytes())
            tile = (path / "tile/0" / name).read_bytes()
        except (OSError, ValueError) as error:
            raise Broken(f"entries {number * WIDTH} to {number * WIDTH + width - 1}: {error}") from None
        own = [merkle.leaf(entry) for entry in entries]
        if len(own) != width:
            raise Broken(f"entries from {number * WIDTH}: {len(own)} instead of {width}")
        for offset, (computed, kept) in enumerate(zip(own, merkle.split(tile), strict=False)):
            if computed != kept:
                raise Broken(f"entry {number * WIDTH + offset} is not what was written")
        hashes += own
    if merkle.fold(hashes) != checkpoint.root:
        raise Broken("the entries do not lead to the checkpoint's root")
    return checkpoint.size


def download(url: str, path: Path, key: str = "") -> int:
    """Copy a log as it is now; returns its size. What is there already and cannot have changed is kept.

    `url` is where Audit's operations begin, such as https://gateway/v1/audit; `key` an operator's API key.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers) as client:
        text = client.get("/checkpoint").raise_for_status().text
        size = note.parse(text.partition("\n\n")[0] + "\n").size
        for number in range(-(-size // WIDTH)):
            width = min(WIDTH, size - number * WIDTH)
            name = f"{tiles.path_of(number)}{'' if width == WIDTH else f'.p/{width}'}"
            for kind in ("entries", "0"):
                target = path / "tile" / kind / name
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(client.get(f"/tile/{kind}/{name}").raise_for_status().content)
        public = client.get("/key").raise_for_status().text
        (path / "checkpoint").write_text(text)
        path.with_name(f"{path.name}.key").write_text(public)
    return size


def main(arguments: list[str]) -> int:
    """Exit status 0 when all is right, 1 with one line when it is not."""
    if len(arguments) != 3 or arguments[0] not in ("verify", "download"):
        usage = "audit verify <file or folder> <key file> | audit download <url> <folder>  # standard input: an API key"
        print(f"usage: {usage}", file=sys.stderr)
        return 2
    what, other = arguments[1], Path(arguments[2])
    try:
        if arguments[0] == "download":
            key = "" if sys.stdin.isatty() else sys.stdin.readline().strip()
            print(f"{download(what, other, key)} entries, and the public key beside them")
            return 0
        key, source = other.read_text(), Path(what)
        if source.is_dir():
            print(f"all {folder(source, key)} entries are as they were written")
        else:
            count, size = export(source.read_text(), key)
            print(f"all {count} entries of the export are in the log of {size}, as they were written")
    except (Broken, OSError, UnicodeDecodeError, httpx.HTTPError) as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    return 0
