"""Queue of events on disk, in files of limited size, for events that do not fit into memory while Kafka is
unavailable.

A file is deleted once Kafka has all its events. After a crash, some events are sent twice instead of being lost;
consumers deduplicate by event ID. The queue survives a restart of the process, but not the deletion of its pod.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kit import logs

log = logs.get("kit.spill")
SEGMENT_BYTES = 4 * 2**20
_HEAD = struct.Struct(">HHHI")


class Event(NamedTuple):
    """An event for a topic."""

    topic: str
    key: bytes
    content: bytes
    traceparent: bytes = b""
    """Trace context in which it was made; empty: none."""


class Spill:
    """A queue in a folder of its own."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files = sorted(folder.glob("*.events"), key=lambda file: int(file.stem))
        self._sizes = {file: file.stat().st_size for file in self._files}
        self._next = int(self._files[-1].stem) + 1 if self._files else 0
        self._sealed = True  # an earlier process may have crashed while writing
        self._taken: set[Path] = set()

    @property
    def size(self) -> int:
        """Size of the queue in bytes."""
        return sum(self._sizes.values())

    def put(self, events: list[Event]) -> int:
        """Append events. Returns how many fit. Raises OSError if writing fails."""
        written, room = 0, self.most_bytes - self.size
        while written < len(events):
            if self._sealed or self._sizes[self._files[-1]] >= SEGMENT_BYTES:
                self._begin()
            file = self._files[-1]
            with file.open("ab", buffering=2**18) as out:
                for topic, key, content, trace in events[written:]:
                    name = topic.encode()
                    size = _HEAD.size + len(name) + len(key) + len(trace) + len(content)
                    if size > room:
                        return written
                    if self._sizes[file] >= SEGMENT_BYTES:
                        break
                    head = _HEAD.pack(len(name), len(key), len(trace), len(content))
                    out.write(head + name + key + trace + content)
                    self._sizes[file] += size
                    room -= size
                    written += 1
        return written

    def _begin(self) -> None:
        file = self._folder / f"{self._next}.events"
        self._next += 1
        file.touch()
        self._files.append(file)
        self._sizes[file] = 0
        self._sealed = False

    def take(self) -> tuple[Path, list[Event]] | None:
        """(oldest file that is not taken yet, its events), or None if the queue is empty. `done` deletes the file."""
        for file in self._files:
            if file not in self._taken:
                self._taken.add(file)
                self._sealed = self._sealed or file is self._files[-1]
                return file, list(_read(file.read_bytes(), file))
        return None

    def done(self, file: Path) -> None:
        """Delete a file whose events Kafka has received."""
        file.unlink(missing_ok=True)
        self._taken.discard(file)
        self._sizes.pop(file, None)
        if file in self._files:
            self._files.remove(file)
        if not self._files:
            self._sealed = True


def _read(content: bytes, file: Path) -> Iterator[Event]:
    """Complete events of a file. An incomplete last event was being written when a process crashed."""
    place = 0
    while place + _HEAD.size <= len(content):
        topic, key, trace, body = _HEAD.unpack_from(content, place)
        start = place + _HEAD.size
        end = start + topic + key + trace + body
        if end > len(content):
            log.error("an event is incomplete", file=file.name, at=place)
            return
        named, keyed = start + topic, start + topic + key
        parts = content[named:keyed], content[end - body : end], content[keyed : keyed + trace]
        yield Event(content[start:named].decode(), *parts)
        place = end
