"""Events for an unavailable broker wait in memory, then on disk, up to a size; lost events are counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from kit import kafka, limits, sender, spill, strict_json, telemetry  # noqa: E402
from kit.sender import LOST, Sender  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from kit.spill import Spill  # noqa: E402

KIB = 1024
EVENT = {"text": "x" * 8 * KIB}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sender:
    monkeypatch.setattr(sender, "QUEUE_KIB", 64)
    access = kafka.client(ServiceSettings(name="kit", kafka_bootstrap="127.0.0.1:1"))
    return Sender(access, Spill(tmp_path / "spill", 256 * KIB))


def lost(topic: str) -> float:
    return LOST.labels(topic)._value.get()


def test_events_beyond_the_memory_limit_wait_on_disk(made: Sender, tmp_path: Path, unique: str) -> None:
    for number in range(30):
        made.send(unique, "acme", EVENT | {"number": number})
    made.hand_on()
    kept = [event for file in sorted((tmp_path / "spill").iterdir()) for event in spill._read(file.read_bytes(), file)]
    assert lost(unique) == 0
    # The producer's length counts its waiting reports, too.
    assert 0 < 30 - len(kept) <= len(made._producer)
    assert [strict_json.loads(one[2])["number"] for one in kept] == list(range(30 - len(kept), 30))
    assert strict_json.loads(kept[-1][2])["number"] == 29 and kept[-1][:2] == (unique, b"acme")
    made._producer.purge()


def test_events_beyond_the_disk_limit_are_counted(made: Sender, unique: str) -> None:
    for _ in range(100):
        made.send(unique, "acme", EVENT)
    made.hand_on()
    assert made._spill.size <= 256 * KIB
    in_memory = 100 - lost(unique) - made._spill.size // (8 * KIB)
    assert 0 < in_memory <= len(made._producer)
    made._producer.purge()


def test_losses_of_a_topic_are_counted_from_zero(tmp_path: Path, unique: str) -> None:
    Sender(kafka.client(ServiceSettings(name="kit", kafka_bootstrap="127.0.0.1:1")), Spill(tmp_path, 0), unique)
    assert telemetry.REGISTRY.get_sample_value("events_lost_total", {"topic": unique}) == 0


def test_an_event_that_no_topic_takes_is_counted(made: Sender, unique: str) -> None:
    made.send(unique, "acme", {"text": "x" * limits.EVENT.most})
    made.send(unique, "acme", {"text": "\ud800"})
    assert lost(unique) == 2
