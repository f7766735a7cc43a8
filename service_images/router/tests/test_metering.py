"""Usage events during a Kafka outage wait in memory, then on disk, and are sent afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import spill as spilling
from kit.sender import LOST
from kit.spill import Event, Spill
from router import metering as metering_module
from router.metering import Metering

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Kafka:
    """A producer with librdkafka's limited queue, whose broker can be made unavailable."""

    def __init__(self, room: int) -> None:
        self.room, self.away = room, True
        self.delivered: list[bytes] = []
        self._queue: list[tuple[bytes, Callable[[Any, Any], None]]] = []

    def produce(
        self, topic: str, content: bytes, key: bytes, headers: Any, on_delivery: Any = lambda error, message: None
    ) -> None:
        if len(self._queue) >= self.room:
            raise BufferError
        self._queue.append((content, on_delivery))

    def poll(self, _: float) -> None:
        if not self.away:
            queue, self._queue = self._queue, []
            for content, recorded in queue:
                self.delivered.append(content)
                recorded(None, None)


def metering(folder: Path, kafka: Kafka, most: int = 2**20) -> Metering:
    made = Metering({"bootstrap.servers": "127.0.0.1:9"}, Spill(folder, most))
    made._producer = kafka
    return made


def numbered(count: int, start: int = 0) -> list[Event]:
    return [Event("topic", b"key", b"event %d" % number, TRACE) for number in range(start, start + count)]


def test_a_kafka_outage_loses_nothing_and_keeps_the_order_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spilling, "SEGMENT_BYTES", 500)
    kafka = Kafka(room=50)
    recorded = metering(tmp_path, kafka)
    for start in range(0, 1000, 100):
        recorded._waiting += numbered(100, start)
        recorded.hand_on()
    assert recorded._spill.size > 0
    assert len(list(tmp_path.glob("*.events"))) > 5
    kafka.away = False
    for _ in range(200):
        recorded.hand_on()
    assert sorted(kafka.delivered) == sorted(event.content for event in numbered(1000))
    assert recorded._spill.size == 0
    assert not list(tmp_path.glob("*.events"))


def test_events_on_disk_outlive_the_process(tmp_path: Path) -> None:
    kafka = Kafka(room=1)
    recorded = metering(tmp_path, kafka)
    recorded._waiting += numbered(100)
    recorded.hand_on()
    # The process dies: events in memory are lost, and the next process sends the others.
    again, back = Kafka(room=1000), None
    back = metering(tmp_path, again)
    again.away = False
    for _ in range(3):
        back.hand_on()
    assert again.delivered == [event.content for event in numbered(99, 1)]


def test_a_file_is_kept_until_kafka_has_all_of_it(tmp_path: Path) -> None:
    first = Spill(tmp_path, 2**20)
    first.put(numbered(10))
    kafka = Kafka(room=100)
    recorded = metering(tmp_path, kafka)
    recorded.hand_on()
    assert recorded._spill.size > 0, "produced, but not delivered"
    kafka.away = False
    recorded.hand_on()
    assert (len(kafka.delivered), recorded._spill.size) == (10, 0)


def test_events_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    before = LOST.labels("topic")._value.get()
    recorded = metering(tmp_path, Kafka(room=0), most=1000)
    recorded._waiting += numbered(100)
    recorded.hand_on()
    kept = sum(1 for _ in spilling._read((tmp_path / "0.events").read_bytes(), tmp_path))
    assert recorded._spill.size <= 1000
    assert 0 < kept < 100
    assert LOST.labels("topic")._value.get() - before == 100 - kept


def test_an_event_that_was_half_written_does_not_hold_up_the_others(tmp_path: Path) -> None:
    Spill(tmp_path, 2**20).put(numbered(3))
    file = tmp_path / "0.events"
    file.write_bytes(file.read_bytes()[:-4])
    after = Spill(tmp_path, 2**20)
    after.put(numbered(1, 7))
    _, events = after.take() or (None, [])
    _, later = after.take() or (None, [])
    assert events == numbered(2)
    assert later == numbered(1, 7)


@given(
    st.lists(st.builds(Event, st.text(max_size=5), *(st.binary(max_size=most) for most in (5, 50, 60))), max_size=20)
)
def test_queued_events_are_returned_unchanged(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    folder = tmp_path_factory.mktemp("spill")
    queue = Spill(folder, 2**20)
    assert queue.put(events) == len(events)
    found: list[Event] = []
    while (taken := queue.take()) is not None:
        found += taken[1]
        queue.done(taken[0])
    assert found == events
    assert queue.size == 0


def test_an_event_that_is_written_down_while_others_are_handed_on_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = Kafka(room=10)
    kafka.away = False
    recorded = metering(tmp_path, kafka)

    def encode(event: Any) -> bytes:
        recorded.hand_on()  # another thread may do this at the same time
        return msgspec.json.encode(event)

    monkeypatch.setattr(metering_module, "_encode", encode)
    recorded.tell("topic", "key", {"n": 1})
    recorded.hand_on()
    assert kafka.delivered == [b'{"n":1}']
