"""Selection of targets, and learning from their outcomes."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router.routes import ModelRoute  # noqa: E402
from router.selection import RouteState, reward  # noqa: E402
from router.targets import FAILURES_TO_OPEN, TargetState  # noqa: E402


@pytest.fixture(autouse=True)
def draws() -> None:
    """A fixed seed, since a correct share would otherwise fail by chance sometimes."""
    random.seed(1)


class Asker:
    def __init__(self, caller: str = "somebody", prompt: str = "") -> None:
        self._caller, self._prompt = caller.encode(), prompt.encode()

    def caller(self) -> bytes:
        return self._caller

    def prompt(self) -> bytes:
        return self._prompt


def route(strategy: str, names: str = "abc", weights: tuple[float, ...] = (), **more: Any) -> RouteState:
    targets = [
        {"name": name, "upstream": f"http://127.0.0.1:{9000 + i}", "weight": weights[i] if weights else 1}
        for i, name in enumerate(names)
    ]
    return RouteState(ModelRoute.model_validate({"model": "m", "targets": targets, "strategy": strategy, **more}))


def choose(state: RouteState, asker: Asker | None = None, tried: tuple[TargetState, ...] = ()) -> str:
    chosen = state.choose(asker or Asker(), tried, 0.0)
    assert chosen is not None
    return chosen.label


def drawn(state: RouteState) -> TargetState:
    label = choose(state)
    return next(target for target in state.targets if target.label == label)


def test_a_trained_bandit_calls_each_target_in_proportion_to_its_belief() -> None:
    """Both numbers of a pair of normal draws, and a single one, have the deviation of the distribution."""
    state = route("bandit")
    for target, mean in zip(state.targets, (0.5, 0.5, 0.45), strict=True):
        target.alpha, target.beta, target.normal = 1, 1, (mean, 0.05)
    seen = Counter(choose(state) for _ in range(20_000))
    other = random.Random(2)
    means = (("a", 0.5), ("b", 0.5), ("c", 0.45))
    expected: Counter[str] = Counter()
    for _ in range(20_000):
        draws = {label: other.gauss(mean, 0.05) for label, mean in means}
        expected[max(draws, key=lambda label: draws[label])] += 1
    for label in "abc":
        assert abs(seen[label] - expected[label]) < 500, (seen, expected)


def test_weights_are_shares() -> None:
    state = route("weighted", weights=(6, 3, 1))
    found = Counter(choose(state) for _ in range(10_000))
    assert found["a"] == pytest.approx(6000, abs=300)
    assert found["c"] == pytest.approx(1000, abs=200)


def test_a_target_of_weight_zero_gets_nothing() -> None:
    assert {choose(route("weighted", weights=(1, 0, 1))) for _ in range(50)} <= {"a", "c"}


@given(st.text(min_size=1))
def test_a_sticky_caller_stays_with_its_target(caller: str) -> None:
    one, other = route("weighted", sticky=True), route("weighted", sticky=True)
    assert choose(one, Asker(caller)) == choose(other, Asker(caller)), "in every replica"


def test_sticky_shares_follow_the_weights() -> None:
    state = route("weighted", "ab", (3, 1), sticky=True)
    found = Counter(choose(state, Asker(f"user-{i}")) for i in range(4000))
    assert found["a"] == pytest.approx(3000, abs=150)


def test_only_callers_of_a_lost_target_move() -> None:
    before, after = route("consistent-hash", "abcd"), route("consistent-hash", "abc")
    for number in range(500):
        asker = Asker(f"user-{number}")
        if (first := choose(before, asker)) != "d":
            assert choose(after, asker) == first


def test_a_target_that_was_tried_is_not_chosen_again() -> None:
    state = route("weighted")
    assert choose(state, tried=(state.targets[0], state.targets[1])) == "c"
    assert state.choose(Asker(), state.targets, 0.0) is None


def test_a_broken_target_is_left_alone_until_the_pause_is_over() -> None:
    state = route("weighted", "ab")
    broken = state.targets[0]
    for _ in range(FAILURES_TO_OPEN):
        broken.begin()
        broken.end(False, 0.1, 0.0)
    assert {choose(state) for _ in range(50)} == {"b"}
    assert {state.choose(Asker(), (), 100.0).label for _ in range(50)} == {"a", "b"}  # type: ignore[union-attr]


def test_behind_an_open_breaker_one_probe_at_a_time() -> None:
    target = route("weighted", "ab").targets[0]
    for _ in range(FAILURES_TO_OPEN):
        target.begin()
        target.end(False, 0.1, 0.0)
    assert target.breaker.allows(100.0)
    target.begin()
    assert not target.breaker.allows(100.0)
    target.end(True, 0.1, 100.0)
    assert target.breaker.allows(100.0)
    assert not target.breaker.open


def test_a_failed_probe_waits_longer() -> None:
    target = route("weighted", "ab").targets[0]
    for _ in range(FAILURES_TO_OPEN):
        target.begin()
        target.end(False, 0.1, 0.0)
    target.begin()
    target.end(False, 0.1, 10.0)
    assert not target.breaker.allows(11.5)
    assert target.breaker.allows(12.1)


def test_the_faster_target_gets_more() -> None:
    state = route("least-latency", "ab")
    state.targets[0].latency_s, state.targets[1].latency_s = 0.5, 0.05
    assert {choose(state) for _ in range(20)} == {"b"}


def test_a_bandit_finds_the_better_target() -> None:
    state = route("bandit")
    worth = {"a": 0.2, "b": 0.8, "c": 0.5}
    for number in range(3000):
        chosen = drawn(state)
        reward(chosen, float(number % 10 < worth[chosen.label] * 10))
    found = Counter(choose(state) for _ in range(1000))
    assert found["b"] > 900


def test_a_bandit_follows_a_target_that_changes() -> None:
    state = route("bandit", "ab")
    for best in ("a", "b"):
        for _ in range(6000):
            chosen = drawn(state)
            reward(chosen, 0.9 if chosen.label == best else 0.3)
    assert Counter(choose(state) for _ in range(1000))["b"] > 900


def test_feedback_counts() -> None:
    state = route("bandit", "ab")
    for _ in range(200):
        assert state.feedback("a", 1.0)
        assert state.feedback("b", 0.0)
    assert Counter(choose(state) for _ in range(200))["a"] > 190
    assert not state.feedback("nobody", 1.0)


CANARY = {"target": "b", "steps": [0.1, 0.5, 1.0], "requests_per_step": 20, "max_error_ratio": 0.1}


def canary() -> RouteState:
    return route("canary", "ab", canary=CANARY)


def observe(state: RouteState, label: str, ok: bool, seconds: float, times: int) -> None:
    target = next(t for t in state.targets if t.label == label)
    for _ in range(times):
        state.observe(target, ok, seconds, 0.0)


def test_a_canary_begins_with_its_first_share() -> None:
    found = Counter(choose(canary()) for _ in range(2000))
    assert found["b"] == pytest.approx(200, abs=80)


def test_a_canary_that_does_well_moves_on_to_all() -> None:
    state = canary()
    for _ in range(2):
        observe(state, "a", True, 0.1, 50)
        observe(state, "b", True, 0.1, 20)
    assert state.trial is not None
    assert state.trial.share == 1.0
    assert {choose(state) for _ in range(50)} == {"b"}


def test_a_canary_that_fails_is_taken_back_before_its_step_is_over() -> None:
    state = canary()
    observe(state, "b", False, 0.1, 3)
    assert state.trial is not None
    assert "3 of 3 requests failed" in state.trial.failed
    assert {choose(state) for _ in range(100)} == {"a"}


def test_a_canary_that_is_slow_is_taken_back() -> None:
    state = canary()
    observe(state, "a", True, 0.1, 100)
    observe(state, "b", True, 0.2, 20)
    assert state.trial is not None
    assert "mean latency 0.200 s" in state.trial.failed


def test_a_canary_alone_answers_where_the_others_are_broken() -> None:
    state = canary()
    for _ in range(FAILURES_TO_OPEN):
        state.targets[0].begin()
        state.targets[0].end(False, 0.1, 0.0)
    assert choose(state) == "b"


def test_the_same_prompt_prefix_uses_the_same_target() -> None:
    state = route("prefix", "abcd")
    system = "You are a helpful assistant. " * 40
    first = choose(state, Asker(prompt=system + "one"))
    assert {choose(state, Asker(prompt=f"{system}{number}" * 3)) for number in range(50)} == {first}


def test_an_overloaded_target_loses_its_prefix() -> None:
    state = route("prefix", "ab")
    prompt = "x" * 2000
    first = choose(state, Asker(prompt=prompt))
    busy = next(t for t in state.targets if t.label == first)
    busy.in_flight, busy.latency_s = 100, 1.0
    assert choose(state, Asker(prompt=prompt)) != first


def test_the_state_of_a_target_outlives_a_reload() -> None:
    before = route("bandit", "ab")
    reward(before.targets[0], 1.0)
    after = RouteState(before.route, before)
    assert after.targets[0] is before.targets[0]
