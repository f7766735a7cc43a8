"""Tells Kafka what each answer took, for billing and audit, and which routes were changed.

Written down in memory at once, sent in batches.

A broker that is away costs nothing but memory: events wait for it, up to `WAITING` of them, and what would go beyond
that is counted. They are lost with a router that is killed meanwhile; one that is stopped sends them first.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import KafkaException
from kit import events, kafka, logs, telemetry
from prometheus_client import Counter

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
WAITING = 500_000
_FLUSH_S = 15.0
_DROPPED = Counter("router_usage_events_dropped_total", "Usage that could not be told.", registry=telemetry.REGISTRY)
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

    def __init__(self, client: dict[str, Any]) -> None:
        self._producer = kafka.producer(client, WAITING, self._told)  # usage is money: it waits for ever
        self._waiting: list[tuple[str, bytes, bytes]] = []
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
            if left:
                _DROPPED.inc(left)
                log.error("usage is lost", events=left)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, (topic, key, content) in enumerate(waiting):
            try:
                self._producer.produce(topic, content, key=key)
            except BufferError:
                self._producer.poll(0)
                kept = waiting[number:][:WAITING]
                _DROPPED.inc(len(waiting) - number - len(kept))
                self._waiting = kept + self._waiting
                break
            except KafkaException as error:
                _DROPPED.inc()
                log.error("an event cannot be told", reason=str(error))
        self._producer.poll(0)
