"""Server-sent events, read as the standard says: every line ending, any cut between two reads.

A stream is normalised once, where it enters: after `Reader.feed` each event is a run of lines that end with LF, and a
blank line follows it. What comes after that may split a block with `split` and read fields with `data` and `name`.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an event stream".
"""

from __future__ import annotations

END = b"\n\n"
"""Ends an event."""
DONE = b"[DONE]"
"""The data of the last event of OpenAI's chat streams."""
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""One event holds at most one delta, or the whole answer once more: as large as a request may be."""
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event has not ended within `MAX_EVENT_BYTES`."""


class Reader:
    """Cuts one stream into whole events. Its time is linear in the stream's length, however it is cut."""

    __slots__ = ("_began", "_pending", "_size", "_skips_lf")

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        """The beginning of an event whose end has not come; all normalised."""
        self._size = 0
        self._skips_lf = False
        """The last byte was a CR: an LF after it belongs to the same line ending."""
        self._began = False
        """Whether the place of a byte order mark has passed."""

    def feed(self, piece: bytes) -> bytes:
        """The events that are whole with this piece, each with its blank line; empty while none is.

        Raises EventTooLarge.
        """
        if not self._began or self._skips_lf or b"\r" in piece:
            piece = self._normalised(piece)
        if not self._pending and piece[-2:] == END:
            return piece
        if not piece:
            return b""
        if self._pending and self._pending[-1][-1:] == b"\n" and piece[:1] == b"\n":
            # The blank line lies across the cut.
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
        """The last event, where the stream has ended properly but for its blank line."""
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
        """With LF only, and without the byte order mark."""
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
    """The events of a block that a reader has given, without their blank lines."""
    return [event for found in block.split(END) if (event := found.strip(b"\n"))]


def data(event: bytes) -> bytes | None:
    """What an event's data lines say together; None: it has none, and says nothing."""
    if event[:6] == b"data: " and b"\n" not in event:
        return event[6:]
    values = [_value(line, 4) for line in event.split(b"\n") if line[:4] == b"data" and line[4:5] in (b":", b"")]
    return b"\n".join(values) if values else None


def name(event: bytes) -> bytes:
    """The type of an event; empty: "message"."""
    found = [_value(line, 5) for line in event.split(b"\n") if line[:5] == b"event" and line[5:6] in (b":", b"")]
    return found[-1] if found else b""


def _value(line: bytes, field: int) -> bytes:
    """After the name of the field, a colon, and one space at most."""
    return line[field + 2 :] if line[field + 1 : field + 2] == b" " else line[field + 1 :]


def event(content: bytes, kind: bytes = b"") -> bytes:
    """One event with its blank line; JSON has no line endings, other content gets a data line for each of its lines."""
    head = b"event: %s\n" % kind if kind else b""
    if b"\n" in content or b"\r" in content:
        content = b"\ndata: ".join(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"%sdata: %s\n\n" % (head, content)
