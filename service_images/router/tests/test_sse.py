"""Server-sent events according to the standard: line endings, splits, comments, several data lines, a BOM."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from router import sse

Running = Callable[..., Any]
HELLO: Any = [{"role": "user", "content": "hello"}]
ENDINGS = [b"\n", b"\r", b"\r\n"]


def dispatched(stream: bytes) -> list[tuple[bytes, bytes]]:
    """(type, data) of each event of a whole stream, by the standard's algorithm."""
    found: list[tuple[bytes, bytes]] = []
    kind, lines = b"", list[bytes]()
    for line in re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if not line:
            if lines:
                found.append((kind, b"\n".join(lines)))
            kind, lines = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            kind = value
    return found


def read(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The same events from the reader."""
    reader = sse.Reader()
    events = [event for piece in pieces for event in sse.split(reader.feed(piece))]
    return [(sse.name(event), content) for event in events if (content := sse.data(event)) is not None]


WORDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=6).map(str.encode)
LINE = st.one_of(
    st.builds(lambda name, colon, text: name + colon + text if colon else name,
              st.sampled_from([b"data", b"event", b"id", b"retry", b"datum", b""]),
              st.sampled_from([b":", b": ", b":  ", b""]), WORDS),
    st.just(b""),
)  # fmt: skip
STREAM = st.builds(
    lambda mark, lines: mark + b"".join(line + end for line, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINE, st.sampled_from(ENDINGS)), max_size=12),
)


@given(STREAM, st.lists(st.integers(0, 200), max_size=6))
def test_events_are_the_standards_however_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert read(pieces) == dispatched(stream)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_two_cuts_at_any_place_change_nothing(ending: bytes, mark: bytes) -> None:
    lines = [
        b": hi",
        b"",
        b"event: a",
        b"data: 1",
        b"data:2",
        b"",
        b"data",
        b"",
        b"",
        b"data:  x",
        b"",
        b"data: [DONE]",
        b"",
    ]
    stream = mark + b"".join(line + ending for line in lines)
    expected = [(b"a", b"1\n2"), (b"", b""), (b"", b" x"), (b"", b"[DONE]")]
    assert dispatched(stream) == expected
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert read([stream[:first], stream[first:second], stream[second:]]) == expected


def test_an_event_is_there_with_the_last_byte_that_it_needs() -> None:
    for ending in ENDINGS:
        reader = sse.Reader()
        assert reader.feed(b"data: 1" + ending) == b""
        # A CR ends the line, with or without a following LF.
        assert sse.split(reader.feed(ending[:1])) == [b"data: 1"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_last_event_without_its_blank_line_is_read_at_the_end(ending: bytes) -> None:
    reader = sse.Reader()
    assert reader.feed(b"data: 1" + ending * 2 + b"data: 2" + ending) == b"data: 1\n\n"
    assert reader.end() == b"data: 2\n\n"
    assert reader.end() == b""


def test_an_event_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    reader = sse.Reader()
    with pytest.raises(sse.EventTooLarge):
        for _ in range(sse.MAX_EVENT_BYTES // 2**16 + 1):
            reader.feed(b"x" * 2**16)


@given(st.binary(max_size=40), st.sampled_from([b"", b"message_start"]))
def test_written_content_can_be_read_again(content: bytes, kind: bytes) -> None:
    lines = re.split(rb"\r\n|\n|\r", content)
    assert read([sse.event(content, kind)]) == [(kind, b"\n".join(lines))]


# --- through a Router ---------------------------------------------------------------------------


def chunk(**more: Any) -> str:
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], **more})


def delta(**content: Any) -> str:
    return chunk(choices=[{"index": 0, "delta": content, "finish_reason": None}])


USAGE = chunk(usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
FRAMED = [delta(role="assistant", content="one "), delta(content="two"), USAGE, "[DONE]"]


def framed(ending: str, space: str = " ") -> list[bytes]:
    """An upstream's events; the event with the usage is split into two reads."""
    events = [f"data:{space}{event}{ending}{ending}".encode() for event in FRAMED]
    usage = events[2]
    return [*events[:2], usage[: len(usage) // 2], usage[len(usage) // 2 :], events[3]]


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_is_metered_in_every_framing(says: Any, running: Running, ending: str, asked: bool) -> None:
    upstream = says(framed(ending))
    router = running([upstream])
    options = {"stream_options": {"include_usage": True}} if asked else {}
    events = router.stream(**options)
    assert router.core.accounts.all()[0].spent == pytest.approx(2.0)
    assert any(event != "[DONE]" and event.get("usage") for event in events) == asked
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("ending", ["\r", "\r\n"])
def test_anthropics_stream_is_made_of_every_framing(says: Any, running: Running, ending: str) -> None:
    router = running([says(framed(ending, space=""))])
    client = anthropic.Anthropic(base_url=router.url, api_key="cf-any", max_retries=0)
    with client.messages.stream(model="m", max_tokens=16, messages=HELLO) as stream:
        assert list(stream.text_stream) == ["one ", "two"]
        assert stream.get_final_message().usage.output_tokens == 2


def test_pieces_are_forwarded_on_arrival_for_any_framing(says: Any, running: Running) -> None:
    upstream = says(framed("\r\n"), stays_open=True)
    router = running([upstream])
    body = {"model": "m", "messages": HELLO, "stream": True}
    with router.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        found = b""
        for piece in answer.iter_raw():
            found += piece
            if b"[DONE]" in found:
                break  # the upstream has not closed the connection
    assert b'"content": "one "' in found
