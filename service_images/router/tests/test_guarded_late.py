"""Guarded streams with a simulated clock: how long text is held, and which text is never released."""

from __future__ import annotations

import asyncio
import functools
import json
import selectors
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "guardrails" / "src"))

from guardrails.calls import Calls
from guardrails.guard import Guard as Looking
from guardrails.policies import Policies
from kit.errors import ApiError
from router import guard, sse
from router.guarded import Guarded
from router.guarded_chat import GuardedChat
from router.guarded_responses import GuardedResponses

LATE_S = 0.5
PAUSES_S = (0.0, 0.1, 0.3, 0.49, 0.6, 2.0, 30.0)


class _Jumping(selectors.SelectSelector):
    """A selector that does not wait: timers fire at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(timeout, 0)
        return super().select(0)


class Clock(asyncio.SelectorEventLoop):
    """An event loop in which time passes only while all tasks wait."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Simulated seconds since the start."""
        return self._jumping.now


class Call:
    """A call of Guardrails' method `Stream`, without a network."""

    def __init__(self, calls: Calls) -> None:
        self._asked: asyncio.Queue[Any] = asyncio.Queue()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._serve(calls))

    async def _serve(self, calls: Calls) -> None:
        async for answer in calls.Stream(self._pieces(), SimpleNamespace(invocation_metadata=tuple)):
            self._answers.put_nowait(answer)
        self._answers.put_nowait(grpc.aio.EOF)

    async def _pieces(self) -> AsyncIterator[Any]:
        while True:
            yield await self._asked.get()

    async def write(self, request: Any) -> None:
        """A piece."""
        self._asked.put_nowait(request)

    async def read(self) -> Any:
        """Released text."""
        return await self._answers.get()

    def cancel(self) -> None:
        """The call is cancelled."""
        self._task.cancel()


class Silent(Call):
    """Guardrails that never answers."""

    async def read(self) -> Any:
        """Never."""
        return await asyncio.get_running_loop().create_future()


@functools.cache
def looking() -> Calls:
    """Guardrails with all detectors."""
    policies, checker = Policies(), Looking()
    policies.take("default", json.dumps({"packs": ["gdpr", "secrets"]}).encode())
    checker.load()
    return Calls(checker, policies)


class Client:
    """Double of the exchange: records forwarded events with their times."""

    def __init__(self, *, required: bool = False) -> None:
        self.guard_required, self.guard_unchecked = required, ""
        self.tenant, self.traceparent, self.trace_id = b"default", b"", b""
        self.request_id, self.verdicts = b"r", None
        self.core = SimpleNamespace(start=asyncio.ensure_future)
        self.received: list[tuple[float, str]] = []
        self.ended = asyncio.get_running_loop().create_future()

    def guarded(self, data: bytes) -> None:
        """Record forwarded events."""
        now = asyncio.get_running_loop().time()
        for event in sse.split(data):
            if (line := sse.data(event)) and line.startswith(b"{"):
                self.received.append((now, _said(json.loads(line))))

    def guarded_end(self, _: int) -> None:
        """The stream has ended normally."""
        self.ended.set_result(None)

    def guarded_break(self, error: ApiError) -> None:
        """The stream was interrupted."""
        self.ended.set_result(error)

    def guarded_stop(self) -> None:
        """The stream was blocked."""
        self.ended.set_result(None)

    def log_fault(self, error: Exception) -> None:
        """An internal error occurred."""
        raise error

    @property
    def text(self) -> str:
        """All forwarded text."""
        return "".join(text for _, text in self.received)


def _said(event: dict[str, Any]) -> str:
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return event["delta"] if event["type"].endswith(".delta") else ""


def chat(text: str) -> bytes:
    """A chunk of a chat completion."""
    return sse.event(
        json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}).encode()
    )


def response(text: str) -> bytes:
    """A delta of the Responses API."""
    return sse.event(json.dumps({"type": "response.output_text.delta", "output_index": 0, "delta": text}).encode())


def played(
    dialect: type[Guarded], pieces: Sequence[tuple[float, str]], call: type[Call] = Call, *, required: bool = False
) -> tuple[Client, list[float], Any]:
    """A stream of (pause before, piece) as its client received it, when each piece came, and how it ended.

    An empty piece is a comment, which keeps a connection alive and is no text.
    """

    async def play() -> tuple[Client, list[float], Any]:
        client, asked = Client(required=required), guard.Guard("127.0.0.1:9", LATE_S)
        asked.__dict__["_client"] = SimpleNamespace(stub=SimpleNamespace(Stream=lambda **_: call(looking())))
        stream = dialect(asked, client)  # type: ignore[arg-type]
        came: list[float] = []
        for pause, piece in pieces:
            await asyncio.sleep(pause)
            came.append(asyncio.get_running_loop().time())
            event = (chat if dialect is GuardedChat else response)(piece) if piece else b": alive\n\n"
            if not client.ended.done():
                stream.feed(event)
        stream.end(b"", 200)
        return client, came, await client.ended

    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(play())


DIALECTS = pytest.mark.parametrize("dialect", [GuardedChat, GuardedResponses])
WORDS = st.lists(
    st.tuples(
        st.sampled_from(PAUSES_S), st.sampled_from((" word", " another", " Sentence.", " größer", " 東京", "", ""))
    ),
    max_size=12,
)


@DIALECTS
@settings(max_examples=60)
@given(pieces=WORDS)
def test_a_word_of_a_slow_stream_waits_no_longer_than_is_configured(
    dialect: type[Guarded], pieces: list[tuple[float, str]]
) -> None:
    """Independently of other events in the meantime."""
    client, came, _ = played(dialect, pieces)
    expected = "".join(piece for _, piece in pieces)
    assert client.text == expected
    length = 0
    for when, (_, piece) in zip(came, pieces, strict=True):
        length += len(piece)
        gone = "".join(text for at, text in client.received if at <= when + LATE_S + 0.01)
        assert len(gone) >= length, (piece, when, client.received)


THINGS = st.sampled_from(
    ("ann.smith@example.com", "4111 1111 1111 1111", "four one one one one one one one one one one one one one one one",
     "AKIAIOSFODNN7EXAMPLE", "DE89 3704 0044 0532 0130 00", "+49 30 901820", "PESEL 44051401359")
)  # fmt: skip


@DIALECTS
@settings(max_examples=60)
@given(thing=THINGS, size=st.integers(1, 8), pauses=st.lists(st.sampled_from(PAUSES_S), min_size=1, max_size=8))
def test_a_slow_stream_releases_no_part_of_a_finding(
    dialect: type[Guarded], thing: str, size: int, pauses: list[float]
) -> None:
    """Before a word is complete, at most its first letters are released, and never a number."""
    text = f"It is {thing} and no more."
    cut = [text[place : place + size] for place in range(0, len(text), size)]
    pieces = [(pauses[number % len(pauses)], piece) for number, piece in enumerate(cut)]
    client, _, ended = played(dialect, pieces)
    assert ended is None and client.text.startswith("It is ") and client.text.endswith(" and no more.")
    between = client.text[len("It is ") : -len(" and no more.")]
    first, _, tag = between.partition("<")
    plain = first.removeprefix("PESEL").strip().rstrip(".")
    assert tag.endswith(">") and (not plain or plain.isalpha()) and len(plain) <= len("smith"), client.text


@DIALECTS
def test_text_that_is_not_checked_in_time_is_marked_or_refused(dialect: type[Guarded]) -> None:
    pieces = [(0.0, "one "), (0.0, "two "), (60.0, "three")]
    client, _, ended = played(dialect, pieces, Silent)
    assert (ended, client.text, client.guard_unchecked) == (None, "one two three", "unanswered")
    assert client.received[0][0] == pytest.approx(guard.PATIENCE_S, abs=0.01)
    client, _, ended = played(dialect, pieces, Silent, required=True)
    assert isinstance(ended, ApiError) and ended.status == 503 and not client.text
    client, _, ended = played(dialect, [(0.0, "x" * (guard.LARGE_BYTES + 1))], Silent)
    assert isinstance(ended, ApiError) and ended.code == "content_too_large" and not client.text
