"""Kafka clients for services, and a consumer that invalid events cannot block."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, Message, Producer
from opentelemetry import trace
from opentelemetry.trace import Span
from prometheus_client import Gauge
from pydantic import TypeAdapter

from kit import logs, messaging, strict_json, telemetry
from kit.dead_letters import DeadLetters, Row
from kit.errors import ApiError
from kit.settings import ServiceSettings

log = logs.get("kit.kafka")
BATCH = 5000
_WAIT_S = 0.5
_PAUSE_S = 1.0
"""Pause in seconds while the database is unavailable."""
_PAUSES_S = (0.25, 0.5, 1.0)
"""Pauses in seconds before the second, third and fourth try of an event that fails while the database works."""
_FULL = 507
"""Status of an ApiError for a full volume, which is not the event's fault."""
STUCK = Gauge(
    "events_stuck_seconds",
    "For how long the same batch of events has not been done; 0: nothing waits.",
    registry=telemetry.REGISTRY,
)
Handler = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]
"""Handles a batch of events. It is called again after an exception, so it must tolerate repeated events."""


def client(settings: ServiceSettings, **more: Any) -> dict[str, Any]:
    """Client settings with TLS and the service's own login. `more` overrides settings."""
    access: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 3}
    if settings.kafka_authority:
        access |= {
            "security.protocol": "sasl_ssl",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": settings.name,
            "sasl.password": settings.kafka_password.get_secret_value(),
            "ssl.ca.location": str(settings.kafka_authority),
        }
    return access | more


def producer(access: dict[str, Any], waiting: int, delivered: Callable[[Any, Message], None]) -> Producer:
    """An idempotent producer with the settings of `client`. An outage of brokers neither loses nor duplicates events.

    `waiting`: maximum number of events in memory. `delivered`: callback with the delivery result of each.
    """
    return Producer(
        {
            **access,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": waiting,
            "message.timeout.ms": 0,  # no timeout
            "on_delivery": delivered,
        }
    )


@dataclass(frozen=True)
class _Record:
    """A message, its event, and its span, if the request that it comes from is recorded."""

    message: Message
    event: dict[str, Any]
    span: Span | None = None


class Events:
    """Consumes topics in the service's own group, and passes events to a handler in batches.

    A failed batch is halved until the failing event is alone. If that event keeps failing while the database accepts
    writes and the last good event can be handled again, it becomes a dead letter, and the others are handled. While the
    database is unavailable, no dead letters are created: the same events are retried until it is back.
    """

    def __init__(
        self, settings: ServiceSettings, topics: Sequence[str], handle: Handler, letters: DeadLetters, model: Any
    ) -> None:
        more = {"group.id": settings.name, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self._group, self._traces = settings.name, bool(settings.otlp_endpoint)
        self._settings, self._topics, self._handle = client(settings, **more), list(topics), handle
        self._letters, self._reader = letters, reader(model)
        self._good: dict[str, Any] | None = None
        """The last successfully handled event."""
        self._since: float | None = None
        """Monotonic time at which the current batch was started; None if there is none."""
        self.problem: str | None = "Kafka: not connected yet"
        """Reason why no events arrive; None if they do."""
        self.taken = 0
        """Number of events passed on since the start."""
        _running.add(self)

    def stuck_s(self) -> float:
        """Seconds since the start of the current batch; 0 if there is none."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def run(self) -> None:
        """Run until cancelled. A batch is committed once all its events are handled or dead letters."""
        consumer = Consumer(self._settings)
        consumer.subscribe(self._topics)
        try:
            while True:
                messages = await asyncio.to_thread(consumer.consume, BATCH, _WAIT_S)
                if messages:
                    self._since = time.monotonic()
                    await self.process(messages)
                    await self._commit(consumer)
                    self._since = None
        finally:
            self._since = self._since or time.monotonic()
            await asyncio.to_thread(consumer.close)

    async def _commit(self, consumer: Consumer) -> None:
        try:
            await asyncio.to_thread(consumer.commit, asynchronous=False)
        except KafkaException as error:  # uncommitted events arrive again
            log.warning("offsets were not committed", reason=str(error.args[0]))

    async def process(self, messages: Sequence[Message]) -> None:
        """Process messages until each is handled or a dead letter."""
        waiting = [await self._read(messages)]
        failing: list[_Record] = []
        while waiting:
            part = waiting.pop()
            if not part or (error := await self._failure(part)) is None:
                continue
            if len(part) > 1:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
            elif _final(error):
                await self._set_aside(part[0].message, repr(error), 1, part[0].span)
            else:
                failing.append(part[0])
        for tries, pause in enumerate(_PAUSES_S, 2):
            if not failing:
                return
            await asyncio.sleep(pause)
            again, failing = failing, []
            for one in again:
                if (error := await self._failure([one])) is None:
                    continue
                if tries > len(_PAUSES_S):
                    await self._set_aside(one.message, repr(error), tries, one.span)
                else:
                    failing.append(one)

    async def _failure(self, records: Sequence[_Record]) -> Exception | None:
        """Reason why these events cannot be handled, or None. Returns only when the events themselves are at fault."""
        while True:
            try:
                await self._within(records)
            except Exception as error:
                if not (isinstance(error, ApiError) and error.status == _FULL) and await self._healthy():
                    return error
                self.problem = f"events cannot be handled: {error!r}"
                log.warning("events cannot be handled now", reason=repr(error), again_in_s=_PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
            else:
                self.problem, self._good = None, records[-1].event
                self.taken += len(records)
                for record in records:
                    if record.span is not None:
                        record.span.end()
                return None

    async def _within(self, records: Sequence[_Record]) -> None:
        """Handle events. A single one is handled within its span, so that its log lines and events have the trace."""
        content = [record.event for record in records]
        if len(records) > 1 or records[0].span is None:
            await self._handle(content)
            return
        with trace.use_span(records[0].span, record_exception=False, set_status_on_exception=False):
            await self._handle(content)

    async def _healthy(self) -> bool:
        """Whether the database accepts writes, and the last good event can be handled again."""
        if await self._letters.probe() is not None:
            return False
        if self._good is not None:
            try:
                await self._handle([self._good])
            except Exception:
                return False
        return True

    async def _set_aside(self, message: Message, reason: str, tries: int, span: Span | None = None) -> None:
        place = {"partition": message.partition() or 0, "position": message.offset() or 0}
        key, value = message.key() or b"", message.value() or b""
        key, value = (part.encode() if isinstance(part, str) else part for part in (key, value))
        while True:
            try:
                await self._letters.put(message.topic() or "", key, value, reason, tries, **place)
            except Exception as error:
                log.warning("cannot store a dead letter now", reason=repr(error), again_in_s=_PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
            else:
                if span is not None:
                    messaging.set_aside(span)
                return

    async def _read(self, messages: Sequence[Message]) -> list[_Record]:
        found: list[_Record] = []
        traced = 0
        for message in messages:
            if (error := message.error()) is not None:
                self.problem = f"Kafka: {error.str()}"
                continue
            self.problem = None
            parent = messaging.origin(message) if self._traces and traced < messaging.MOST_TRACED else None
            traced += parent is not None
            try:
                event = self._reader(message.value() or b"")
            except ValueError as error:  # includes BadJson and ValidationError; a retry would fail, too
                span = parent and messaging.process(message, parent, self._group, None)
                await self._set_aside(message, str(error), 1, span)
            else:
                span = parent and messaging.process(message, parent, self._group, event)
                found.append(_Record(message, event, span))
        return found

    async def check(self) -> str | None:
        """Readiness."""
        return self.problem if self.problem and self.problem.startswith("events") else None


_running: weakref.WeakSet[Events] = weakref.WeakSet()
STUCK.set_function(lambda: max((consumer.stuck_s() for consumer in _running), default=0.0))


def _final(error: Exception) -> bool:
    """Whether a retry is useless, since the text is invalid or the database rejects its values."""
    refused = isinstance(error, ApiError) and error.status < 500
    return refused or isinstance(error, (ValueError, psycopg.DataError, psycopg.IntegrityError))


def reader(model: Any) -> Callable[[bytes | str], dict[str, Any]]:
    """Function that reads events of a model like the service's REST operation, but ignores unknown fields, which a
    newer producer may have added. Raises ValueError."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    def read(content: bytes | str) -> dict[str, Any]:
        event = adapter.validate_python(strict_json.loads(content), extra="ignore")
        return adapter.dump_python(event, mode="json")

    return read


def retrying(handle: Handler, model: Any) -> Callable[[Row], Awaitable[None]]:
    """Function that handles the event of a dead letter, for `DeadLetters`."""
    read = reader(model)

    async def retry(row: Row) -> None:
        await handle([read(row["payload"])])

    return retry
