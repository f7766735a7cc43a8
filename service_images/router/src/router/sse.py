"""Parses server-sent events as the standard defines: any line ending, and any split between two reads.

A stream is normalized once, on arrival: after `Reader.feed`, each event is a sequence of lines that end with LF,
followed by a blank line. Later code may split a block with `split`, and read fields with `data` and `name`.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an event stream".
"""

from __future__ import annotations

END = b"\n\n"
"""End of an event."""
DONE = b"[DONE]"
"""Data of the last event of OpenAI's chat streams."""
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Maximum bytes of an event, which contains at most one delta, or a repeated whole answer: as large as a request."""
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event has not ended within `MAX_EVENT_BYTES`."""


class Reader:
    """Splits a stream into complete events, in linear time for any split of the stream."""

    __slots__ = ("_began", "_pending", "_size", "_skips_lf")

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        """Normalized beginning of an incomplete event."""
        self._size = 0
        self._skips_lf = False
        """Whether the last byte was CR, so that a following LF belongs to the same line ending."""
        self._began = False
        """Whether the position of a byte order mark has passed."""

    def feed(self, piece: bytes) -> bytes:
        """Events that this piece completes, each with its blank line; empty if there is none.

        Raises EventTooLarge.
        """
        if not self._began or self._skips_lf or b"\r" in piece:
            piece = self._normalised(piece)
        if not self._pending and piece[-2:] == END:
            return piece
        if not piece:
            return b""
        if self._pending and self._pending[-1][-1:] == b"\n" and piece[:1] == b"\n":
            # The blank line is split between two pieces.
            end = max(piece.rfind(END) + 2, 1)
        else:
            end = piece.rfind(END) + 2
            if end < 2:
                self._hold(piece)
                return b""
        whole = b"".join((*self._pending, piece[:end]))
        self._pending.clear()
        self._size = 0
        if end < len(piece):
            self._hold(piece[end:])
        return whole

    def end(self) -> bytes:
        """The last event, if only its blank line is missing."""
        rest = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        return rest.rstrip(b"\n") + END if rest.strip() else b""

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of a stream is larger than {MAX_EVENT_BYTES} bytes")
        self._pending.append(piece)

    def _normalised(self, piece: bytes) -> bytes:
        """Replace line endings with LF, and remove the byte order mark."""
        if not self._began and piece:
            head = b"".join((*self._pending, piece))
            if len(head) < len(_BOM) and _BOM.startswith(head):
                self._pending = [head]
                return b""
            self._began = True
            self._pending.clear()
            piece = head.removeprefix(_BOM)
        if self._skips_lf and piece:
            self._skips_lf = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._skips_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece


def split(block: bytes) -> list[bytes]:
    """Events of a block from a reader, without their blank lines."""
    return [event for found in block.split(END) if (event := found.strip(b"\n"))]


def data(event: bytes) -> bytes | None:
    """Joined data lines of an event; None if it has no data, and so is no message."""
    if event[:6] == b"data: " and b"\n" not in event:
        return event[6:]
    values = [_value(line, 4) for line in event.split(b"\n") if line[:4] == b"data" and line[4:5] in (b":", b"")]
    return b"\n".join(values) if values else None


def name(event: bytes) -> bytes:
    """Type of an event; empty means "message"."""
    found = [_value(line, 5) for line in event.split(b"\n") if line[:5] == b"event" and line[5:6] in (b":", b"")]
    return found[-1] if found else b""


def _value(line: bytes, field: int) -> bytes:
    """Value after the field's name, a colon, and at most one space."""
    return line[field + 2 :] if line[field + 1 : field + 2] == b" " else line[field + 1 :]


def event(content: bytes, kind: bytes = b"") -> bytes:
    """One event with its blank line. JSON has no line endings; other content gets one data line per line."""
    head = b"event: %s\n" % kind if kind else b""
    if b"\n" in content or b"\r" in content:
        content = b"\ndata: ".join(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"%sdata: %s\n\n" % (head, content)
