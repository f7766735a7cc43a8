"""Sends events to Kafka: collects them in memory, and sends them in batches.

While Kafka is unavailable, events wait: `QUEUE_KIB` of them in the producer's memory, then in files (`spill.py`) up to
a configured size. Nothing is lost within this limit. Metrics show the fill level, an alert predicts when it will be
full, and events beyond it are counted as lost. A stopping service first sends waiting events, for at most `flush_s`
seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from prometheus_client import Counter, Gauge

from kit import kafka, logs, messaging, strict_json, telemetry
from kit.limits import EVENT
from kit.spill import Event, Spill

log = logs.get("kit.sender")
QUEUE_KIB = 16 * 1024
"""Memory of the producer's queue in KiB. librdkafka's default, 1 GiB, is more than a pod has."""
_EVENTS = 100_000
"""Most events in the producer's queue, since each needs memory besides its content."""
_EVERY_S = 0.25
LOST = Counter("events_lost_total", "Events that could not be sent to Kafka.", ["topic"], registry=telemetry.REGISTRY)
_SPILLED = Gauge("events_spilled_bytes", "Events that wait on disk for Kafka.", registry=telemetry.REGISTRY)
_ROOM = Gauge("events_spill_limit_bytes", "Most that may wait there.", registry=telemetry.REGISTRY)


class Sender:
    """Collects and sends events. There is one per process, because it owns the folder of `spill`."""

    flush_s = 10.0

    def __init__(self, access: dict[str, Any], spill: Spill, *topics: str) -> None:
        """`access`: result of `kafka.client`. `topics`: topics that it sends to, whose loss counters start at zero."""
        access = {"queue.buffering.max.kbytes": QUEUE_KIB, **access}
        self._producer = kafka.producer(access, _EVENTS, self._delivered)
        self._spill = spill
        self._waiting: deque[Event] = deque()
        """Only appended to and taken from the left, one event at a time: threads may do both at once."""
        self._unsent: dict[Path, int] = {}
        """Number of events from files whose delivery Kafka has not confirmed yet."""
        _ROOM.set(spill.most_bytes)
        for topic in topics:
            LOST.labels(topic)

    def send(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """Send an event within a second, or queue it. An event that is too large is lost at once."""
        try:
            content = strict_json.dumps(event)
            if len(content) > EVENT.most:
                raise ValueError(f"{EVENT}; it has {len(content):,}")
        except ValueError as error:
            self._lose(topic, str(error))
        else:
            trace = event.get("traceparent", "")
            self._waiting.append(Event(topic, key.encode(), content, trace.encode()))

    def _lose(self, topic: str, reason: str, events: int = 1) -> None:
        LOST.labels(topic).inc(events)
        log.error("events are lost", topic=topic, events=events, reason=reason)

    async def run(self) -> None:
        """Run until cancelled. At the end, the remaining events are sent."""
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                self.hand_on()
        finally:
            self.hand_on()
            left = self._producer.flush(self.flush_s)
            if left or self._spill.size:
                log.error("events have not reached Kafka", in_memory=left, bytes_on_disk=self._spill.size)
            if left:
                self._lose("(any)", "the service ends", left)

    def hand_on(self) -> None:
        """Pass new events to the producer, then events on disk. Events that do not fit go to disk."""
        while self._waiting:
            event = self._waiting.popleft()
            if not self._produce(event):
                self._put_aside([event, *self._rest()])
                break
        else:
            self._resume()
        self._producer.poll(0)
        _SPILLED.set(self._spill.size)

    def _rest(self) -> Iterator[Event]:
        while self._waiting:
            yield self._waiting.popleft()

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._lose(message.topic() or "", str(error))

    def _produce(self, event: Event, done: Callable[[Any, Any], None] | None = None) -> bool:
        """Whether the producer has accepted the event, or never will."""
        topic, key, content, trace = event
        more: dict[str, Any] = {} if done is None else {"on_delivery": done}
        try:
            self._producer.produce(topic, content, key=key, headers=messaging.headers(trace), **more)
        except BufferError:
            return False
        except KafkaException as error:
            self._lose(topic, str(error))
            if done is not None:
                done(None, None)
        return True

    def _put_aside(self, events: list[Event]) -> None:
        reason = f"{self._spill.most_bytes:,} bytes wait on disk"
        try:
            written = self._spill.put(events)
        except OSError as error:
            written, reason = 0, f"they cannot be written to disk: {error}"
        for topic in {event.topic for event in events[written:]}:
            self._lose(topic, reason, sum(1 for event in events[written:] if event.topic == topic))

    def _resume(self) -> None:
        """Send one file at a time, while Kafka accepts events."""
        if self._unsent or not self._spill.size or (taken := self._spill.take()) is None:
            return
        file, events = taken
        self._unsent[file] = len(events) + 1
        for number, event in enumerate(events):
            if not self._produce(event, lambda error, message: self._sent(file, error, message)):
                # The rest is written to the end of the queue. The file with the delivered events is deleted.
                self._put_aside(events[number:])
                for _ in events[number:]:
                    self._sent(file)
                break
        self._sent(file)

    def _sent(self, file: Path, error: Any = None, message: Any = None) -> None:
        self._delivered(error, message)
        self._unsent[file] -= 1
        if not self._unsent[file]:
            del self._unsent[file]
            self._spill.done(file)
