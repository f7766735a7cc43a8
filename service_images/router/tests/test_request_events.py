"""A request under any order of events has one answer and one settlement, and leaks nothing. See router/request.py."""

from __future__ import annotations

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.drain import DRAIN
from kit.errors import ApiError
from router import guard as looking
from router.core import Core
from router.exchange import Exchange
from router.measure import Measures
from router.routes import RouteTable
from router.upstream import Sink, Ticket

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "%s"}], "max_tokens": 9, "stream": %s}'
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'
WHOLE = b'{"choices": [{"index": 0, "message": {"content": "words"}}], "usage": {"prompt_tokens": 2}}'
SECONDS = 30.0


class Upstream:
    """A pool whose answers the test controls."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Ticket, Sink]] = []
        """Running requests that were not cancelled."""
        self.begun: list[Sink] = []
        """Running requests with a received head."""

    def send(self, request: bytes, sink: Sink) -> Ticket:
        ticket: Any = Ticket()
        entry = (ticket, sink)
        self.waiting.append(entry)
        ticket.connection = SimpleNamespace(
            abort=lambda: self.waiting.remove(entry) if entry in self.waiting else None,
            pause=lambda: None,
            resume=lambda: None,
        )
        return ticket

    def close(self) -> None:
        pass


class Guard:
    """Guardrails whose answers the test controls."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[str]] = []
        self.stub = SimpleNamespace(Stream=lambda metadata: self)
        self._texts: list[str] = []

    def _verdict(self) -> asyncio.Future[str]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    async def look(self, exchange: Any, direction: Any, content: Any, known: set[str] | None = None) -> str:
        return await self._verdict()

    async def write(self, request: Any) -> None:
        self._texts.append(request.text)

    async def read(self) -> Any:
        verdict = await self._verdict()
        action = looking.messages.ACTION_BLOCK if verdict == "block" else looking.messages.ACTION_ALLOW
        return looking.messages.StreamResponse(action=action, text=self._texts.pop())

    def cancel(self) -> None:
        pass

    def say(self, verdict: str) -> None:
        asked = next((one for one in self.asked if not one.done()), None)
        if asked is not None:
            asked.set_exception(ApiError(503, "away")) if verdict == "away" else asked.set_result(verdict)


class Client:
    """The client's side of the connection."""

    def __init__(self) -> None:
        self.said, self.finished_times = b"", 0
        self.transport, self.flow = self, SimpleNamespace(write_paused=False)

    def write(self, data: bytes) -> None:
        assert not self.finished_times, "after the end of the answer"
        self.said += data

    def close(self) -> None:
        pass

    def finished(self, keep_alive: bool) -> None:
        self.finished_times += 1


class World:
    """One request with its client, its targets, and Guardrails."""

    def __init__(self, guardrails: str, stream: bool, large: bool) -> None:
        targets = [
            {"name": name, "upstream": f"http://127.0.0.1:{port}", "input_price": 1, "output_price": 1}
            for name, port in (("a", 1), ("b", 2))
        ]
        route = {"model": "m", "targets": targets, "timeout_seconds": SECONDS, "hedge_seconds": 2, "attempts": 3,
                 "first_token_seconds": 5, "guardrails": guardrails, "cache": {"any_temperature": True}}  # fmt: skip
        tenants = [
            {
                "id": "t",
                "keys": [hashlib.sha256(b"key").hexdigest()],
                "budget_usd": 100,
                "tokens_per_minute": 10_000_000,
            }
        ]
        table = RouteTable.model_validate({"routes": [route], "tenants": tenants})
        self.core = Core(table, Measures(logging=False))
        self.time = self.core.now()
        self.core.now = lambda: self.time
        self.guard = Guard()
        self.core.guard = self.guard  # type: ignore[assignment]
        self.upstreams = [Upstream() for _ in targets]
        self.targets = self.core.routes["m"].targets
        for target, upstream in zip(self.targets, self.upstreams, strict=True):
            target.pool = upstream  # type: ignore[assignment]
        self.client = Client()
        self.settled: list[int] = []
        end = self.core.measures.end
        self.core.measures.end = lambda one, status, seconds: (self.settled.append(status), end(one, status, seconds))  # type: ignore[method-assign,return-value]
        body = BODY % (b"x" * (300_000 if large else 10), b"true" if stream else b"false")
        self.rest = [body[:200], body[200:]]
        headers = {b"content-length": b"%d" % len(body), b"authorization": b"Bearer key"}
        self.exchange = Exchange(self.client, self.core, b"/v1/chat/completions", headers)  # type: ignore[arg-type]
        self.exchange.start()

    # --- events ---------------------------------------------------------------------------------

    def body(self) -> None:
        if self.rest:
            self.exchange.feed(self.rest.pop(0))
            if not self.rest:
                self.exchange.complete()

    def _sink(self, number: int, *, begun: bool) -> Sink | None:
        """Receiver of the oldest answer of a target, with or without a received head."""
        upstream = self.upstreams[number]
        sink = upstream.waiting[0][1] if upstream.waiting else None
        return sink if sink is not None and (sink in upstream.begun) is begun else None

    def head(self, number: int, status: int) -> None:
        if (sink := self._sink(number, begun=False)) is not None:
            self.upstreams[number].begun.append(sink)
            sink.on_head(status, b"application/json", b"")

    def data(self, number: int, data: bytes) -> None:
        if (sink := self._sink(number, begun=True)) is not None:
            sink.on_data(data)

    def end(self, number: int) -> None:
        if (sink := self._sink(number, begun=True)) is not None:
            self.upstreams[number].waiting.pop(0)
            sink.on_end()

    def break_off(self, number: int) -> None:
        if self.upstreams[number].waiting:
            self.upstreams[number].waiting.pop(0)[1].on_failure("closed")

    def wait(self, seconds: float) -> None:
        self.time += seconds
        if self.exchange in self.core.in_flight:
            self.exchange.check(self.time)

    def disconnect(self) -> None:
        self.exchange.disconnected = True
        self.exchange.set()

    def drain(self) -> None:
        DRAIN.begun = True

    def verdict(self, verdict: str) -> None:
        self.guard.say(verdict)


def _answer(number: int, status: int, data: bytes) -> list[tuple[Any, ...]]:
    return [("head", number, status), ("data", number, data)]


NUMBERS = st.integers(0, 1)
EVENTS = st.one_of(
    st.just([("body",)]),
    st.just([("body",), ("body",)]),
    st.builds(_answer, NUMBERS, st.sampled_from([200, 200, 400, 429, 500]), st.sampled_from([EVENT, WHOLE, b""])),
    st.builds(lambda n: [("data", n, EVENT)], NUMBERS),
    st.builds(lambda n: [("end", n)], NUMBERS),
    st.builds(lambda n: [("break_off", n)], NUMBERS),
    st.builds(lambda s: [("wait", s)], st.sampled_from([0.1, 2.0, 5.0, SECONDS])),
    st.just([("disconnect",)]),
    st.just([("drain",)]),
    st.builds(lambda v: [("verdict", v)], st.sampled_from(["allow", "allow", "redact", "block", "away"])),
)


BEGINNINGS = st.sampled_from(
    [[], [("body",), ("body",)], [("body",), ("body",), ("verdict", "allow")], [("body",), ("body",), ("wait", 2.0)]]
)
"""Initial events, weighted towards complete requests that Guardrails admits, or that are sent to two targets."""


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["off", "off", "on", "required"]), st.booleans(), st.booleans(), BEGINNINGS,
       st.lists(EVENTS, max_size=12))  # fmt: skip
def test_every_request_is_answered_and_settled_once_and_leaks_nothing(
    guardrails: str, stream: bool, large: bool, begins: list[tuple[Any, ...]], happening: list[list[tuple[Any, ...]]]
) -> None:
    async def live() -> World:
        world = World(guardrails, stream, large)
        for name, *values in (event for events in [begins, *happening] for event in events):
            getattr(world, name)(*values)
            for _ in range(8):
                await asyncio.sleep(0)
        world.wait(2 * SECONDS)  # the time limit ends everything that is still running
        while any(not one.done() for one in world.guard.asked):
            world.verdict("allow")
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        return world

    try:
        world = asyncio.run(live())
    finally:
        DRAIN.begun = False
    exchange, core, client = world.exchange, world.core, world.client
    assert exchange.response_complete
    assert len(world.settled) == 1
    assert client.finished_times == (0 if exchange.disconnected and world.settled == [499] else 1)
    heads = client.said.count(b"HTTP/1.1 ")
    assert heads == 1 or (heads == 0 and not client.finished_times)
    assert core.in_flight == set() and core._tasks == set()
    assert [target.in_flight for target in world.targets] == [0, 0]
    assert [upstream.waiting for upstream in world.upstreams] == [[], []]
    (account,) = core.accounts.all()
    assert account.held == pytest.approx(0)
    assert core.bodies.held == 0 and core.cache._waiting == {}
    assert exchange.winner is None and exchange._legs == [] and exchange.stream_guard is None
    assert exchange._pieces == [] and exchange.recorded is None
