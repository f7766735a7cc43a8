"""The loop that takes base backups."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from pgnode import backups, restore

ROUNDS = 50


class Store:
    """Backups, by the time of their end, and how often they were listed and taken."""

    def __init__(self) -> None:
        self.ends: list[datetime] = []
        self.listed = self.taken = self.timeline = 0

    def list(self) -> list[dict[str, str]]:
        self.listed += 1
        return [{"end_time_iso": end.isoformat()} for end in self.ends]

    def take(self) -> None:
        self.taken += 1
        self.ends.append(datetime.now(UTC))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(restore, "complete_backups", made.list)
    monkeypatch.setattr(backups, "_take", made.take)
    monkeypatch.setattr(backups, "_drop", lambda _: None)
    monkeypatch.setattr(backups, "_timeline", lambda: made.timeline)
    return made


def run(monkeypatch: pytest.MonkeyPatch, *events: tuple[int, object]) -> None:
    """Run some rounds. `events`: functions that are called after a round."""
    rounds = iter(range(ROUNDS))
    after = dict(events)

    def sleep(_: float) -> None:
        number = next(rounds, None)
        if number is None:
            raise KeyboardInterrupt
        if callable(event := after.get(number)):
            event()

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        backups.main()


def test_the_first_backup_is_taken_at_once_and_the_list_is_not_read_in_each_round(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.timeline = 1
    run(monkeypatch)
    assert (store.taken, store.listed) == (1, 2)


def test_a_restore_is_followed_by_one_backup(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.timeline, store.ends = 1, [datetime.now(UTC)]
    run(monkeypatch, (20, lambda: setattr(store, "timeline", 2)))
    assert store.taken == 1


def test_a_backup_is_taken_when_the_newest_one_is_too_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.timeline, store.ends = 1, [datetime.now(UTC) - timedelta(hours=25)]
    run(monkeypatch)
    assert store.taken == 1


def test_a_backup_that_somebody_has_deleted_is_replaced_when_the_list_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.timeline, store.ends = 1, [datetime.now(UTC)]
    monkeypatch.setattr(backups, "LIST_EVERY", timedelta(0))
    run(monkeypatch, (20, store.ends.clear))
    assert (store.taken, len(store.ends)) == (1, 1)
