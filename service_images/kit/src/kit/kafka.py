"""Kafka for services: how to reach it, and a consumer that hands over batches and remembers only what was taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer

from kit import logs
from kit.settings import ServiceSettings

log = logs.get("kit.kafka")
BATCH = 5000
_WAIT_S = 0.5
_PAUSE_S = 1.0
_FLUSH_S = 10.0
_WAITING = 100_000
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


class Sender:
    """Tells Kafka: remembered at once, sent in batches; what waits for a broker that is away is kept in memory."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._producer = producer(client(settings), _WAITING, self._told)

    @staticmethod
    def _told(error: Any, message: Message) -> None:
        if error is not None:
            log.error("an event was not taken", topic=message.topic(), reason=str(error))

    def send(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """An event; one that does not fit into memory any more is lost, and that is told."""
        try:
            self._producer.produce(topic, json.dumps(event).encode(), key=key)
        except (BufferError, KafkaException) as error:
            log.error("an event is lost", topic=topic, reason=str(error))

    async def run(self) -> None:
        """For ever; at the end what is left is sent."""
        try:
            while True:
                await asyncio.sleep(_WAIT_S)
                self._producer.poll(0)
        finally:
            self._producer.flush(_FLUSH_S)


class Events:
    """Follows topics in the service's own group."""

    def __init__(self, settings: ServiceSettings, topics: Sequence[str], handle: Handler) -> None:
        more = {"group.id": settings.name, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self._settings, self._topics, self._handle = client(settings, **more), list(topics), handle
        self.problem: str | None = "Kafka: not connected yet"
        """Why events do not come; None when they do."""
        self.taken = 0
        """Events handed over since the start."""

    async def run(self) -> None:
        """For ever. A batch is committed once it was taken."""
        consumer = Consumer(self._settings)
        consumer.subscribe(self._topics)
        try:
            while True:
                messages = await asyncio.to_thread(consumer.consume, BATCH, _WAIT_S)
                events = self._read(messages)
                if events:
                    await self._insist(events)
                    self.taken += len(events)
                if messages:
                    await self._commit(consumer)
        finally:
            consumer.close()

    async def _commit(self, consumer: Consumer) -> None:
        try:
            await asyncio.to_thread(consumer.commit, asynchronous=False)
        except KafkaException as error:  # what is not remembered comes again
            log.warning("offsets were not kept", reason=str(error.args[0]))

    async def _insist(self, events: Sequence[dict[str, Any]]) -> None:
        while True:
            try:
                await self._handle(events)
            except Exception as error:
                self.problem = f"events cannot be taken: {error!r}"
                log.warning("events are not taken yet", reason=repr(error), again_in_s=_PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
            else:
                self.problem = None
                return

    def _read(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for message in messages:
            if (error := message.error()) is not None:
                self.problem = f"Kafka: {error.str()}"
                continue
            self.problem = None
            try:
                event = json.loads(message.value() or b"")
                known = isinstance(event, dict) and all(event.get(key) for key in ("id", "source", "type", "data"))
            except ValueError:
                known, event = False, None
            if known:
                found.append(event)
            else:
                # Whoever writes it goes against the registry's schema; holding up all others would help nobody.
                place = f"{message.topic()}/{message.partition()}/{message.offset()}"
                log.error("what is no event is passed over", place=place)
        return found

    async def check(self) -> str | None:
        """Readiness."""
        return self.problem if self.problem and self.problem.startswith("events") else None
