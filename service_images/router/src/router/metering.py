"""Tells Kafka what each answer took, for billing and audit, and which routes were changed.

Written down in memory at once, sent in batches.

While Kafka is away events wait: `QUEUE_KIB` of them in the producer's memory, then as files (`spill.py`) up to the
size that is configured. Nothing is lost within that; a metric says how full it is and an alert when it would be full,
and what would go beyond is counted as dropped. A Router that stops sends what waits first, for `_FLUSH_S` at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import KafkaException
from kit import events, kafka, logs, telemetry
from prometheus_client import Counter, Gauge

from router.spill import Event, Spill

if TYPE_CHECKING:
    from router.exchange import Exchange

log = logs.get("router.metering")
TOPIC = "usage.recorded.v1"
TYPE = events.TYPE_PREFIX + TOPIC
_OPERATIONS = {
    "/v1/embeddings": "embedding",
    "/v1/completions": "completion",
    "/v1/responses": "response",
    "/v1/messages": "message",
}
EVERY_S = 0.25
QUEUE_KIB = 16 * 1024
"""Memory of the producer's queue: 40,000 events."""
_EVENTS = 100_000
"""And so many at most, since each takes some memory beside its content."""
_FLUSH_S = 15.0
_DROPPED = Counter("router_usage_events_dropped_total", "Usage events that were lost.", registry=telemetry.REGISTRY)
_SPILLED = Gauge("router_usage_spilled_bytes", "Usage events that wait on disk for Kafka.", registry=telemetry.REGISTRY)
_ROOM = Gauge("router_usage_spill_limit_bytes", "Most that may wait there.", registry=telemetry.REGISTRY)
_encode = msgspec.json.Encoder().encode


class Used(msgspec.Struct):
    """The data of an event. Source: kit/events/usage.recorded.v1.json."""

    tenant: str
    user: str
    model: str
    target: str
    operation: str
    input_tokens: int
    output_tokens: int
    cached: bool
    status: int
    duration_ms: float
    request: str
    cost_usd: float
    estimated: bool
    """Whether the router has counted some of the tokens, since the upstream has not reported them."""


class UsageEvent(msgspec.Struct):
    """A CloudEvent 1.0."""

    id: str
    time: str
    subject: str
    traceparent: str
    data: Used
    specversion: str = "1.0"
    source: str = "/services/router"
    type: str = TYPE
    datacontenttype: str = "application/json"


class Metering:
    """Collects and sends."""

    def __init__(self, client: dict[str, Any], spill: Spill) -> None:
        # Usage is money: it waits for ever.
        access = {"queue.buffering.max.kbytes": QUEUE_KIB, **client}
        self._producer = kafka.producer(access, _EVENTS, self._told)
        self._spill = spill
        self._waiting: list[Event] = []
        self._unsent: dict[Path, int] = {}
        """Events of files that were taken whose delivery Kafka has not confirmed yet."""
        _ROOM.set(spill.most_bytes)
        self._second, self._stamp = 0, ""

    @staticmethod
    def _told(error: Any, _: Any) -> None:
        if error is not None:
            _DROPPED.inc()
            log.error("an event was not taken", reason=str(error))

    def record(self, exchange: Exchange, status: int, seconds: float, target: str, cost: float) -> None:
        """An answer that took something, or would have but for the cache."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        tenant = exchange.tenant.decode()
        used = exchange.used or (0, 0)
        ask = exchange.ask
        event = UsageEvent(
            # Clients may send an id of theirs twice; this one is the router's own.
            id=exchange.core.request_id().decode(),
            time=f"{self._stamp}.{int((now - second) * 1e6):06d}Z",
            subject=f"request/{exchange.request_id.decode()}",
            traceparent=exchange.traceparent.decode(),
            data=Used(
                tenant=tenant,
                user=(ask.user or "") if ask is not None else "",
                model=exchange.model,
                target=target,
                operation=_OPERATIONS.get(exchange.path_text, "chat"),
                input_tokens=used[0],
                output_tokens=used[1],
                cached=not target,
                status=status,
                duration_ms=round(seconds * 1000, 3),
                request=exchange.request_id.decode(),
                cost_usd=cost,
                estimated=exchange.estimates,
            ),
        )
        self._waiting.append((TOPIC, exchange.tenant, _encode(event)))

    def tell(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """An event that is no usage; it happens seldom, and waits beside the others."""
        self._waiting.append((topic, key.encode(), _encode(event)))

    async def run(self) -> None:
        """Send, for ever; at the end what is left."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                self._send()
        finally:
            self._send()
            left = self._producer.flush(_FLUSH_S)
            if left or self._spill.size:
                log.error("usage events have not reached Kafka", in_memory=left, bytes_on_disk=self._spill.size)
                _DROPPED.inc(left)

    def _send(self) -> None:
        """Hand on what has come, then what waits on disk; what the producer has no room for goes to the disk."""
        waiting, self._waiting = self._waiting, []
        for number, event in enumerate(waiting):
            if not self._produce(event):
                self._put_aside(waiting[number:])
                break
        else:
            self._resume()
        self._producer.poll(0)
        _SPILLED.set(self._spill.size)

    def _produce(self, event: Event, done: Callable[[Any, Any], None] | None = None) -> bool:
        """Whether the producer has taken it, or never will."""
        topic, key, content = event
        more = {} if done is None else {"on_delivery": done}
        try:
            self._producer.produce(topic, content, key=key, **more)
        except BufferError:
            return False
        except KafkaException as error:
            _DROPPED.inc()
            log.error("an event cannot be sent", reason=str(error))
            if done is not None:
                done(None, None)
        return True

    def _put_aside(self, events: list[Event]) -> None:
        try:
            written = self._spill.put(events)
        except OSError as error:
            log.error("the disk takes no usage events", reason=str(error))
            written = 0
        if lost := len(events) - written:
            _DROPPED.inc(lost)
            log.error("usage events are lost", events=lost, bytes_on_disk=self._spill.size)

    def _resume(self) -> None:
        """Send one file at a time, while Kafka takes what it is given."""
        if self._unsent or not self._spill.size or (taken := self._spill.take()) is None:
            return
        file, events = taken
        self._unsent[file] = len(events) + 1
        for number, event in enumerate(events):
            if not self._produce(event, lambda error, _: self._sent(file, error)):
                # The rest is written once more, behind all others; what is delivered of it is deleted with the file.
                self._put_aside(events[number:])
                for _ in events[number:]:
                    self._sent(file, None)
                break
        self._sent(file, None)

    def _sent(self, file: Path, error: Any) -> None:
        if error is not None:
            self._told(error, None)
        self._unsent[file] -= 1
        if not self._unsent[file]:
            del self._unsent[file]
            self._spill.done(file)
