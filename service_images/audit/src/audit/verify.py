"""Checks an export or a log offline: `python3 -m audit verify <file or folder> <key file>`.

A file is a tenant's export. A folder is a copy of the whole log, made with `download`. Every changed bit is detected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from kit.ledger import merkle, note
from kit.ledger.commitment import VERSION, commitment
from kit.ledger.merkle import WIDTH
from kit.ledger.note import Checkpoint

from audit import tiles
from audit.exporting import Digest, Statement, parse
from audit.ledger import content_of


class Broken(Exception):
    """An export or a log is invalid. The message says why."""


@dataclass(frozen=True)
class Checked:
    """Summary of a valid export."""

    statement: Statement
    shredded: int
    """Number of entries whose content is shredded or expired."""
    earlier: int
    """Number of entries of version 1. The export's signature covers their subject and data, but the tree does not."""


def export(lines: Iterable[str], key: str) -> Checked:
    """Check an export line by line. Raises Broken."""
    numbered = enumerate(lines, 1)
    try:
        checkpoint = note.verify(json.loads(next(numbered)[1])["checkpoint"], key)
    except (StopIteration, KeyError, ValueError, TypeError) as error:
        raise Broken(f"the checkpoint: {error!r}") from None
    digest = Digest()
    shredded = earlier = 0
    statement: Statement | None = None
    tenants: set[str] = set()
    before: tuple[int, int | None] = (-1, None)
    for place, line in numbered:
        if statement is not None:
            raise Broken(f"line {place} comes after the end")
        try:
            found = json.loads(line)
            if "end" in found:
                text, last = note.verify_within(found["end"], key)
                statement = parse(text)
                if last is not None and statement.size > last:
                    raise Broken(f"the key was replaced at {last} entries, before the log had {statement.size}")
                continue
            entry = _entry_of(found, checkpoint)
        except Broken as error:
            raise Broken(f"line {place}: {error}") from None
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise Broken(f"line {place} cannot be read: {error!r}") from None
        before = _follows(place, entry, before)
        digest.add(entry.number, entry.leaf, entry.shown)
        tenants.add(entry.tenant)
        shredded, earlier = shredded + entry.shredded, earlier + entry.earlier
    if statement is None:
        raise Broken("the last line is missing, so other lines may be missing, too")
    _whole(statement, checkpoint, digest, tenants, before[0])
    return Checked(statement, shredded, earlier)


@dataclass(frozen=True)
class _Entry:
    number: int
    leaf: bytes
    tenant: str
    place: int | None
    shown: dict[str, Any]
    shredded: bool
    earlier: bool


def _entry_of(found: dict[str, Any], checkpoint: Checkpoint) -> _Entry:
    """The entry of a line. Raises Broken unless it is in the log and matches its commitment."""
    number, text, shown = int(found["number"]), str(found["entry"]), dict(found["event"])
    if set(found) != {"number", "entry", "proof", "event"}:
        raise Broken("it has fields other than number, entry, proof and event")
    proof = [bytes.fromhex(part) for part in found["proof"]]
    if not merkle.verify_inclusion(text.encode(), number, checkpoint.size, proof, checkpoint.root):
        raise Broken(f"entry {number} is not in the log of the checkpoint")
    leaf = json.loads(text)
    version, content, sealed = leaf.pop("v", 1), leaf.pop("content", ""), leaf.pop("sealed", "")
    expired = shown.pop("expired", False)
    gone = shown.pop("shredded", expired)
    opened = {name: shown.pop(name) for name in ("subject", "data", "salt") if name in shown}
    if shown != {**leaf, "leaf": version}:
        raise Broken(f"entry {number} in the export differs from the log")
    if gone and opened:
        raise Broken(f"entry {number} is shredded or expired, but has content")
    if version >= VERSION and not gone:
        salt = bytes.fromhex(opened.pop("salt"))
        if commitment(salt, content_of(opened)) != content:
            raise Broken(f"the subject or data of entry {number} differs from the log")
    elif not gone and (not sealed or "salt" in opened):
        raise Broken(f"entry {number} shows something that was not written")
    return _Entry(
        number, text.encode(), leaf["tenant"], leaf.get("place"), found["event"], bool(gone), version < VERSION
    )


def _follows(line: int, entry: _Entry, before: tuple[int, int | None]) -> tuple[int, int | None]:
    """(number, place) of an entry. Raises Broken unless it directly follows the previous one of its tenant."""
    number, place = before
    if entry.number <= number:
        raise Broken(f"line {line}: entry {entry.number} is not after entry {number}")
    if place is not None and entry.place != place + 1:
        raise Broken(f"line {line}: entries of the tenant before entry {entry.number} are missing")
    return entry.number, entry.place


def _whole(statement: Statement, checkpoint: Checkpoint, digest: Digest, tenants: set[str], last: int) -> None:
    """Raise Broken unless the entries are exactly those of the log's signed statement."""
    if statement.size != checkpoint.size:
        raise Broken("the last line belongs to an export of another checkpoint")
    if not tenants <= {statement.tenant}:
        raise Broken("the export contains entries of another tenant")
    if last > statement.last:
        raise Broken(f"entry {last} is not in the span of the export")
    if (statement.count, statement.digest) != (digest.count, digest.hex()):
        raise Broken(
            f"it has {digest.count} entries, and is not the export of {statement.count} that the log has signed"
        )


def folder(path: Path, key: str) -> int:
    """Check a copied log. Returns its size. Raises Broken."""
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
                raise Broken(f"entry {number * WIDTH + offset} differs from the log")
        hashes += own
    if merkle.fold(hashes) != checkpoint.root:
        raise Broken("the entries do not lead to the checkpoint's root")
    return checkpoint.size


def download(url: str, path: Path, key: str = "") -> int:
    """Copy the current log. Returns its size. Complete tiles that exist already are not copied again.

    `url`: base URL of Audit's API, such as https://gateway/v1/audit. `key`: an operator's API key.
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


def summary(found: Checked) -> str:
    """The result of a check as one line."""
    said = found.statement
    text = f"all {said.count} entries of {said.tenant or 'no tenant'} from {said.first} to {said.last}, and no others, "
    text += f"are unchanged in the log of {said.size} entries"
    if found.shredded:
        text += f"; the contents of {found.shredded} are shredded or expired"
    if found.earlier:
        text += f"; the subject and data of {found.earlier} of an earlier format are as reported at the export"
    return text


def main(arguments: list[str]) -> int:
    """Run a command. Exit status 0 if the log is valid, 1 with a message otherwise."""
    if len(arguments) != 3 or arguments[0] not in ("verify", "download"):
        usage = "audit verify <file or folder> <key file> | audit download <url> <folder>  # standard input: an API key"
        print(f"usage: {usage}", file=sys.stderr)
        return 2
    what, other = arguments[1], Path(arguments[2])
    try:
        if arguments[0] == "download":
            key = "" if sys.stdin.isatty() else sys.stdin.readline().strip()
            print(f"{download(what, other, key)} entries were downloaded, with the public key")
            return 0
        key, source = other.read_text(), Path(what)
        if source.is_dir():
            print(f"all {folder(source, key)} entries are unchanged")
        else:
            with source.open(encoding="utf-8", newline="\n") as lines:
                print(summary(export(lines, key)))
    except (Broken, OSError, UnicodeDecodeError, httpx.HTTPError) as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    return 0
