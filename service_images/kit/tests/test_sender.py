"""What waits for a broker that is away is bounded in bytes, and what is lost is counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from kit import kafka, limits  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402

KIB = 1024


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> kafka.Sender:
    monkeypatch.setattr(kafka, "QUEUE_KIB", 64)
    return kafka.Sender(ServiceSettings(name="kit", kafka_bootstrap="127.0.0.1:1"))


def lost(topic: str) -> float:
    return kafka.LOST.labels(topic)._value.get()


def test_events_wait_up_to_a_number_of_bytes(sender: kafka.Sender, unique: str) -> None:
    event = {"text": "x" * 8 * KIB}
    for _ in range(7):
        sender.send(unique, "acme", event)
    assert lost(unique) == 0
    for _ in range(10):
        sender.send(unique, "acme", event)
    assert lost(unique) >= 9
    sender._producer.purge()


def test_an_event_that_no_topic_takes_is_counted(sender: kafka.Sender, unique: str) -> None:
    sender.send(unique, "acme", {"text": "x" * limits.EVENT.most})
    sender.send(unique, "acme", {"text": "\ud800"})
    assert lost(unique) == 2
