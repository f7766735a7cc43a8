"""Kafka for services: how to reach it, and a consumer that no event can stop."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, Message, Producer
from prometheus_client import Gauge
from pydantic import TypeAdapter

from kit import logs, strict_json, telemetry
from kit.dead_letters import DeadLetters, Row
from kit.errors import ApiError
from kit.settings import ServiceSettings

log = logs.get("kit.kafka")
BATCH = 5000
_WAIT_S = 0.5
_PAUSE_S = 1.0
"""While the database is away."""
_PAUSES_S = (0.25, 0.5, 1.0)
"""Before the second, third and fourth try of an event that fails although all is well."""
_FULL = 507
"""ApiError of a volume that is full: whatever the event, it is not its fault."""
STUCK = Gauge(
    "events_stuck_seconds",
    "For how long the same batch of events has not been done; 0: nothing waits.",
    registry=telemetry.REGISTRY,
)
Handler = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]
"""Takes a batch of events. What it raises is tried again: it must be able to see an event twice."""


def client(settings: ServiceSettings, **more: Any) -> dict[str, Any]:
    """Settings of a client: TLS and the service's own login; `more` overrides."""
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


def producer(access: dict[str, Any], waiting: int, told: Callable[[Any, Message], None]) -> Producer:
    """With an access that `client` gave: nothing is lost or doubled while it waits, however long a broker is away.

    `waiting`: events that are kept in memory; `told` is given what became of each.
    """
    return Producer(
        {
            **access,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": waiting,
            "message.timeout.ms": 0,  # for ever
            "on_delivery": told,
        }
    )


@dataclass(frozen=True)
class _Record:
    """A message, and the event that it holds."""

    message: Message
    event: dict[str, Any]


class Events:
    """Follows topics in the service's own group, and hands their events over in batches.

    A batch that fails is halved until the event that fails is alone. An event that fails again and again while the
    database takes writes, and while the last good event can be handled once more, becomes a dead letter; the others are
    handled. While the database is away nothing is set aside: the same events are tried for as long as it takes.
    """

    def __init__(
        self, settings: ServiceSettings, topics: Sequence[str], handle: Handler, letters: DeadLetters, model: Any
    ) -> None:
        more = {"group.id": settings.name, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self._settings, self._topics, self._handle = client(settings, **more), list(topics), handle
        self._letters, self._reader = letters, reader(model)
        self._good: dict[str, Any] | None = None
        """The last event that was handled."""
        self._since: float | None = None
        """When the batch was begun that is not done yet."""
        self.problem: str | None = "Kafka: not connected yet"
        """Why events do not come; None when they do."""
        self.taken = 0
        """Events handed over since the start."""
        _running.add(self)

    def stuck_s(self) -> float:
        """For how long the same batch has not been done; 0: none is begun."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def run(self) -> None:
        """For ever. A batch is committed once each of its events was handled or set aside."""
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
        except KafkaException as error:  # what is not remembered comes again
            log.warning("offsets were not kept", reason=str(error.args[0]))

    async def process(self, messages: Sequence[Message]) -> None:
        """Until each of them was handled or set aside."""
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
                await self._set_aside(part[0].message, repr(error), 1)
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
                    await self._set_aside(one.message, repr(error), tries)
                else:
                    failing.append(one)

    async def _failure(self, records: Sequence[_Record]) -> Exception | None:
        """Why these events cannot be handled; None: they were. Returns once the fault is the events' own."""
        while True:
            try:
                await self._handle([record.event for record in records])
            except Exception as error:
                if not (isinstance(error, ApiError) and error.status == _FULL) and await self._healthy():
                    return error
                self.problem = f"events cannot be taken: {error!r}"
                log.warning("events are not taken yet", reason=repr(error), again_in_s=_PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
            else:
                self.problem, self._good = None, records[-1].event
                self.taken += len(records)
                return None

    async def _healthy(self) -> bool:
        """Whether the database takes writes, and an event that was handled before can be handled again."""
        if await self._letters.probe() is not None:
            return False
        if self._good is not None:
            try:
                await self._handle([self._good])
            except Exception:
                return False
        return True

    async def _set_aside(self, message: Message, reason: str, tries: int) -> None:
        place = {"partition": message.partition() or 0, "position": message.offset() or 0}
        key, value = message.key() or b"", message.value() or b""
        key, value = (part.encode() if isinstance(part, str) else part for part in (key, value))
        while True:
            try:
                await self._letters.put(message.topic() or "", key, value, reason, tries, **place)
            except Exception as error:
                log.warning("an event cannot be set aside yet", reason=repr(error), again_in_s=_PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _read(self, messages: Sequence[Message]) -> list[_Record]:
        found: list[_Record] = []
        for message in messages:
            if (error := message.error()) is not None:
                self.problem = f"Kafka: {error.str()}"
                continue
            self.problem = None
            try:
                found.append(_Record(message, self._reader(message.value() or b"")))
            except ValueError as error:  # BadJson and ValidationError are; no second try reads another text
                await self._set_aside(message, str(error), 1)
        return found

    async def check(self) -> str | None:
        """Readiness."""
        return self.problem if self.problem and self.problem.startswith("events") else None


_running: weakref.WeakSet[Events] = weakref.WeakSet()
STUCK.set_function(lambda: max((consumer.stuck_s() for consumer in _running), default=0.0))


def _final(error: Exception) -> bool:
    """Whether another try can only fail alike: the text, or what the database says of its values, is wrong."""
    refused = isinstance(error, ApiError) and error.status < 500
    return refused or isinstance(error, (ValueError, psycopg.DataError, psycopg.IntegrityError))


def reader(model: Any) -> Callable[[bytes | str], dict[str, Any]]:
    """Reads events of a model as the service's REST operation does, but for fields that it does not know: whoever
    writes the event may be newer. Raises ValueError."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    def read(content: bytes | str) -> dict[str, Any]:
        event = adapter.validate_python(strict_json.loads(content), extra="ignore")
        return adapter.dump_python(event, mode="json")

    return read


def retrying(handle: Handler, model: Any) -> Callable[[Row], Awaitable[None]]:
    """Handles the event of a dead letter, for `DeadLetters`."""
    read = reader(model)

    async def retry(row: Row) -> None:
        await handle([read(row["payload"])])

    return retry
