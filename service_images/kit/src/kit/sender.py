"""Sends events to Kafka: written down in memory at once, sent in batches.

While Kafka is away events wait: `QUEUE_KIB` of them in the producer's memory, then as files (`spill.py`) up to the
size that the service gives. Nothing is lost within that; metrics say how full it is and an alert when it would be full,
and what would go beyond is counted as lost. A service that stops sends what waits first, for `flush_s` at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from prometheus_client import Counter, Gauge

from kit import kafka, logs, strict_json, telemetry
from kit.limits import EVENT
from kit.spill import Event, Spill

log = logs.get("kit.sender")
QUEUE_KIB = 16 * 1024
"""Memory of the producer's queue. The default of librdkafka, 1 GiB, is more than a pod has."""
_EVENTS = 100_000
"""And so many at most, since each takes some memory beside its content."""
_EVERY_S = 0.25
LOST = Counter("events_lost_total", "Events that could not be sent to Kafka.", ["topic"], registry=telemetry.REGISTRY)
_SPILLED = Gauge("events_spilled_bytes", "Events that wait on disk for Kafka.", registry=telemetry.REGISTRY)
_ROOM = Gauge("events_spill_limit_bytes", "Most that may wait there.", registry=telemetry.REGISTRY)


class Sender:
    """Collects and sends. One in a process: the folder of `spill` is its own."""

    flush_s = 10.0

    def __init__(self, access: dict[str, Any], spill: Spill, *topics: str) -> None:
        """`access`: what `kafka.client` gave. `topics`: those that it sends to, whose losses are counted from zero."""
        access = {"queue.buffering.max.kbytes": QUEUE_KIB, **access}
        self._producer = kafka.producer(access, _EVENTS, self._told)
        self._spill = spill
        self._waiting: deque[Event] = deque()
        """Only appended to and taken from the left, one event at a time: threads may do both at once."""
        self._unsent: dict[Path, int] = {}
        """Events of files that were taken whose delivery Kafka has not confirmed yet."""
        _ROOM.set(spill.most_bytes)
        for topic in topics:
            LOST.labels(topic)

    def send(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """An event; it is sent within a second, or waits. One that no topic takes is lost at once."""
        try:
            content = strict_json.dumps(event)
            if len(content) > EVENT.most:
                raise ValueError(f"{EVENT}; it has {len(content):,}")
        except ValueError as error:
            self._lose(topic, str(error))
        else:
            self._waiting.append((topic, key.encode(), content))

    def _lose(self, topic: str, reason: str, events: int = 1) -> None:
        LOST.labels(topic).inc(events)
        log.error("events are lost", topic=topic, events=events, reason=reason)

    async def run(self) -> None:
        """For ever; at the end what is left is sent."""
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
        """Hand on what has come, then what waits on disk; what the producer has no room for goes to the disk."""
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

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            self._lose(message.topic() or "", str(error))

    def _produce(self, event: Event, done: Callable[[Any, Any], None] | None = None) -> bool:
        """Whether the producer has taken it, or never will."""
        topic, key, content = event
        more = {} if done is None else {"on_delivery": done}
        try:
            self._producer.produce(topic, content, key=key, **more)
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
            written, reason = 0, f"the disk does not take them: {error}"
        for topic in {topic for topic, _, _ in events[written:]}:
            self._lose(topic, reason, sum(1 for one, _, _ in events[written:] if one == topic))

    def _resume(self) -> None:
        """Send one file at a time, while Kafka takes what it is given."""
        if self._unsent or not self._spill.size or (taken := self._spill.take()) is None:
            return
        file, events = taken
        self._unsent[file] = len(events) + 1
        for number, event in enumerate(events):
            if not self._produce(event, lambda error, message: self._sent(file, error, message)):
                # The rest is written once more, behind all others; what is delivered of it is deleted with the file.
                self._put_aside(events[number:])
                for _ in events[number:]:
                    self._sent(file)
                break
        self._sent(file)

    def _sent(self, file: Path, error: Any = None, message: Any = None) -> None:
        self._told(error, message)
        self._unsent[file] -= 1
        if not self._unsent[file]:
            del self._unsent[file]
            self._spill.done(file)
