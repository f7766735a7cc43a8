"""The order in which images are built."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.errors import LocalError
from local.images import processes, schedule


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, tuple[int, ...]]:
    """Names, each with parents among the names before it."""
    count = draw(st.integers(0, 12))
    return {n: tuple(draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else ()) for n in range(count)}


@given(graphs())
def test_each_is_built_once_after_its_parents_and_signed_after_its_build(parents: dict[int, tuple[int, ...]]) -> None:
    built: list[int] = []
    signed: list[int] = []

    def build(name: int) -> None:
        assert set(parents[name]) <= set(built)
        built.append(name)

    def certify(name: int) -> None:
        assert name in built
        signed.append(name)

    schedule.run(parents, build, certify)
    assert sorted(built) == sorted(signed) == list(parents)


def test_two_are_built_at_a_time() -> None:
    both = threading.Barrier(2, timeout=30)
    schedule.run({"a": (), "b": ()}, lambda _: both.wait() and None, lambda _: None)


def test_after_an_error_nothing_that_is_built_upon_it_begins() -> None:
    built: list[str] = []

    def build(name: str) -> None:
        if name == "base":
            raise ValueError("no space")
        built.append(name)

    with pytest.raises(ValueError, match="no space"):
        schedule.run({"base": (), "kit": ("base",), "router": ("kit",)}, build, lambda _: None)
    assert built == []


def test_an_image_that_cannot_be_signed_is_an_error() -> None:
    def certify(_: str) -> None:
        raise ValueError("no key")

    with pytest.raises(ValueError, match="no key"):
        schedule.run({"pause": ()}, lambda _: None, certify)


def test_an_interruption_ends_the_programs_of_running_builds() -> None:
    failed: list[Exception] = []

    def build(_: str) -> None:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            assert processes.run(["sleep", "300"]).returncode == -signal.SIGTERM
            processes.run(["true"])
        except LocalError as error:
            failed.append(error)
            raise

    # Processes of parallel test runs ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            schedule.run({"a": (), "b": ("a",)}, build, lambda _: None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [str(error).splitlines()[0] for error in failed] == ["the build is interrupted"]
    schedule.run({"a": ()}, lambda _: processes.run(["true"]).check_returncode(), lambda _: None)
