"""Strategies that choose the target of a request."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from router.overrides import Course, Verdict
from router.routes import Canary, Guardrails, ModelRoute, Strategy, Target
from router.targets import TargetState

FORGET = 0.999
"""Decay of a bandit's earlier rewards per request, so that it follows targets that change."""
LATENCY_SCALE_S = 2.0
"""Seconds after which an answer is worth half of an immediate one to a bandit."""
COST_SCALE_USD = 0.01
"""US dollars at which an answer is worth half of a free one to a bandit."""
PREFIX_BLOCK, PREFIX_BLOCKS, PREFIXES = 256, 32, 8192
"""Bytes of a block, blocks of a prompt, and number of remembered blocks."""
OVERLOADED = 2.0
"""Ratio of a target's requests in flight to the others' mean, above which its prefixes move to other targets."""
SLACK = 8
"""Requests in flight that do not count as load."""

CHOICE_S = 1.0
"""Seconds between two descriptions of a route's targets for usage events."""
CHOICE_TARGETS = 16
"""Most targets in a description."""
CERTAIN = 64.0
"""Sum of a beta distribution's parameters above which a normal distribution replaces it, which is faster to draw."""


class Asker(Protocol):
    """Interface of a request for strategies."""

    def caller(self) -> bytes:
        """Identity of the caller, for stickiness."""
        ...

    def prompt(self) -> bytes:
        """The request's text."""
        ...


Picker = Callable[[Asker, Sequence[TargetState]], TargetState]
"""(request, healthy targets with weights, at least one) -> target."""


def _weighted(_: Asker | None, among: Sequence[TargetState]) -> TargetState:
    if len(among) == 1:
        return among[0]
    sums = list(itertools.accumulate(state.target.weight for state in among))
    return among[min(bisect_right(sums, random.random() * sums[-1]), len(among) - 1)]


def _rendezvous(caller: bytes, among: Sequence[TargetState]) -> TargetState:
    """Highest random weight: if a target is added or removed, only its own callers move.

    Source: Thaler, Ravishankar, "Using name-based mappings to increase hit rates", 1998; weights as in
    Schindelhauer, Schomaker, "Weighted distributed hash tables", 2005.
    """

    def score(state: TargetState) -> float:
        digest = hashlib.blake2b(caller, digest_size=8, key=state.label.encode()[:64]).digest()
        return -state.target.weight / math.log((int.from_bytes(digest) + 1) / (2**64 + 1))

    return max(among, key=score) if len(among) > 1 else among[0]


def _by_caller(asker: Asker, among: Sequence[TargetState]) -> TargetState:
    return _rendezvous(asker.caller(), among)


def _least_latency(_: Asker, among: Sequence[TargetState]) -> TargetState:
    """The better of two random targets. The best one alone would be overloaded by all requests at once."""
    one, other = random.sample(among, 2) if len(among) > 2 else (among[0], among[-1])
    return min(one, other, key=lambda state: state.latency_s * (state.in_flight + 1))


def _bandit(_: Asker, among: Sequence[TargetState]) -> TargetState:
    """The target with the highest draw from its reward's distribution."""
    if len(among) == 1:
        return among[0]
    draws, spare = [], None
    for state in among:
        normal = state.normal
        if normal is None:
            draws.append(random.betavariate(state.alpha, state.beta))
            continue
        # Like `random.gauss`, but with two calls fewer: a pair of uniform numbers yields two normal ones.
        if spare is None:
            angle, radius = random.random() * math.tau, math.sqrt(-2.0 * math.log(1.0 - random.random()))
            deviation, spare = math.cos(angle) * radius, math.sin(angle) * radius
        else:
            deviation, spare = spare, None
        draws.append(normal[0] + deviation * normal[1])
    return among[draws.index(max(draws))]


class _Prefix:
    """Remembers which target has processed which beginning of a prompt."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, str] = OrderedDict()

    def __call__(self, asker: Asker, among: Sequence[TargetState]) -> TargetState:
        """The target that has processed the longest beginning of this prompt, unless it is overloaded."""
        prompt = asker.prompt()
        end = min(len(prompt) - len(prompt) % PREFIX_BLOCK, PREFIX_BLOCK * PREFIX_BLOCKS)
        chain, link = [], 0
        for start in range(0, end, PREFIX_BLOCK):
            link = hash((link, prompt[start : start + PREFIX_BLOCK]))
            chain.append(link)
        chosen = self._known(chain, among) or _least_latency(asker, among)
        for link in chain:
            self._seen[link] = chosen.label
            self._seen.move_to_end(link)
        while len(self._seen) > PREFIXES:
            self._seen.popitem(last=False)
        return chosen

    def _known(self, chain: list[int], among: Sequence[TargetState]) -> TargetState | None:
        total, others = sum(state.in_flight for state in among), max(1, len(among) - 1)
        for link in reversed(chain):
            label = self._seen.get(link)
            found = next((state for state in among if state.label == label), None)
            if found is not None and found.in_flight <= OVERLOADED * (total - found.in_flight) / others + SLACK:
                return found
        return None


class Trial:
    """Progress of a canary: its step, and the outcomes of it and of the other targets in this step."""

    def __init__(self, canary: Canary, target: Target) -> None:
        self.canary = canary
        content = canary.model_dump_json() + target.model_dump_json(exclude={"weight"})
        self.digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        """Identity of the canary: decisions about another one of the same model do not apply."""
        self._heard: Verdict | None = None
        self.restart()

    def judge(self, verdict: Verdict) -> None:
        """Apply a decision, once."""
        if verdict.trial != self.digest or verdict == self._heard:
            return
        self._heard = verdict
        if verdict.course is Course.ABORTED:
            self.failed = self.failed or verdict.reason or "taken back"
            return
        self.restart()
        if verdict.course is Course.PROMOTED:
            self.step, self._promoted = len(self.canary.steps) - 1, True

    @property
    def untold(self) -> bool:
        """Whether it has failed here without a published decision."""
        return bool(self.failed) and (self._heard is None or self._heard.course is not Course.ABORTED)

    def restart(self) -> None:
        """Restart with the first step."""
        self.step = 0
        self.failed = ""
        """Why it was withdrawn; empty if it was not."""
        self._promoted = False
        self._clear()

    def _clear(self) -> None:
        self._requests = self._errors = 0
        self._seconds = {True: 0.0, False: 0.0}
        self._answers = {True: 0, False: 0}

    @property
    def share(self) -> float:
        """Share of the requests, 0 to 1."""
        if self.failed:
            return 0.0
        return 1.0 if self._promoted else self.canary.steps[self.step]

    def describe(self) -> dict[str, Any]:
        """State for operators."""
        return {"target": self.canary.target, "share": self.share, "step": self.step, "failed": self.failed}

    def __call__(self, _: Asker, among: Sequence[TargetState]) -> TargetState:
        """The canary in its share of the cases, otherwise one of the other targets."""
        name = self.canary.target
        canary = next((state for state in among if state.label == name), None)
        others = [state for state in among if state.label != name]
        if canary is not None and (not others or random.random() < self.share):
            return canary
        return _weighted(None, others)

    def observe(self, label: str, ok: bool, seconds: float) -> None:
        """Record one outcome; may advance to the next step, or withdraw the canary."""
        mine = label == self.canary.target
        if ok:
            self._seconds[mine] += seconds
            self._answers[mine] += 1
        if not mine or self.failed:
            return
        self._requests += 1
        self._errors += not ok
        # The rest of the step cannot compensate for the failures, so send no further request.
        allowed = self.canary.max_error_ratio * self.canary.requests_per_step
        if self._errors > allowed:
            self.failed = f"{self._errors} of {self._requests} requests failed"
        elif self._requests >= self.canary.requests_per_step:
            self._judge()

    def _judge(self) -> None:
        if self._answers[True] and self._answers[False]:
            mean = {mine: self._seconds[mine] / self._answers[mine] for mine in (True, False)}
            if mean[True] > mean[False] * self.canary.max_latency_ratio:
                self.failed = f"mean latency {mean[True]:.3f} s, compared to {mean[False]:.3f} s of the other targets"
                return
        self.step = min(self.step + 1, len(self.canary.steps) - 1)
        self._clear()


class RouteState:
    """A route with its state."""

    __slots__ = (
        "_pick",
        "_weighty",
        "bandit",
        "choice",
        "choice_until",
        "fallbacks",
        "guarded",
        "input_price",
        "output_price",
        "route",
        "targets",
        "trial",
    )

    def __init__(self, route: ModelRoute, before: RouteState | None = None) -> None:
        self.route = route
        known = {state.target: state for state in before.targets} if before else {}
        self.targets = [known.get(target) or TargetState(target) for target in route.servers]
        self._weighty = [state for state in self.targets if state.target.weight]
        self.input_price = max(target.input_price for target in route.servers) / 1e6
        self.output_price = max(target.output_price for target in route.servers) / 1e6
        self.trial: Trial | None = None
        self.fallbacks: tuple[RouteState, ...] = ()
        if route.canary is not None:
            target = next(target for target in route.servers if target.label == route.canary.target)
            trial, earlier = Trial(route.canary, target), before.trial if before else None
            self.trial = earlier if earlier is not None and earlier.digest == trial.digest else trial
        # Stored next to the route, since Python 3.11 looks up members of enumerations slowly.
        self.guarded = route.guardrails is not Guardrails.OFF
        self.bandit = route.strategy is Strategy.BANDIT
        self._pick = self._picker()
        self.choice: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
        """Description of the targets that a request chooses from, for its usage event."""
        self.choice_until = float("inf") if len(self._weighty) == 1 and self.trial is None else 0.0
        """Time until which `choice` counts as current. It is described once a second, not for each request."""

    def _picker(self) -> Picker:
        if self.trial is not None:
            return self.trial
        return {
            Strategy.WEIGHTED: _by_caller if self.route.sticky else _weighted,
            Strategy.BANDIT: _bandit,
            Strategy.LEAST_LATENCY: _least_latency,
            Strategy.CONSISTENT_HASH: _by_caller,
            Strategy.PREFIX: _Prefix(),
        }[self.route.strategy]

    def choose(self, asker: Asker, tried: Sequence[TargetState], now: float) -> TargetState | None:
        """An untried target whose circuit breaker admits a request; None if there is none."""
        among = [
            state
            for state in self._weighty
            if (not state.breaker.open or state.breaker.allows(now)) and state not in tried
        ]
        return self._pick(asker, among) if among else None

    def observe(self, state: TargetState, ok: bool, seconds: float, cost: float) -> None:
        """Record an outcome."""
        if self.trial is not None:
            self.trial.observe(state.label, ok, seconds)
        if self.bandit:
            reward(state, _worth(seconds, cost) if ok else 0.0)

    def describe(self, now: float) -> dict[str, Any]:
        """State of the targets."""
        found: dict[str, Any] = {state.label: state.describe(now) for state in self.targets}
        canary = self.trial.describe() if self.trial else None
        return {"strategy": self.route.strategy.value, "targets": found, "canary": canary}

    def described_choice(self, now: float) -> msgspec.Raw:
        """Describe the targets again: the strategy, and each target's score in the strategy's own unit."""
        self.choice_until = now + CHOICE_S
        found: dict[str, Any] = {
            "strategy": self.route.strategy.value,
            "targets": [
                {"target": state.label, "score": self._score(state), "in_flight": state.in_flight}
                | ({"broken": True} if state.breaker.open else {})
                for state in self._weighty[:CHOICE_TARGETS]
            ],
        }
        self.choice = msgspec.Raw(msgspec.json.encode(found))
        return self.choice

    def _score(self, state: TargetState) -> float:
        """Weight, mean reward, or seconds of latency times requests in flight; for a canary, the share of requests."""
        if self.trial is not None:
            mine = state.label == self.trial.canary.target
            return round(self.trial.share if mine else 1 - self.trial.share, 6)
        if self.bandit:
            return round(state.alpha / (state.alpha + state.beta), 6)
        if self.route.strategy in (Strategy.LEAST_LATENCY, Strategy.PREFIX):
            return round(state.latency_s * (state.in_flight + 1), 6)
        return state.target.weight

    def judge(self, verdict: Verdict) -> None:
        """Apply a decision about the canary."""
        if self.trial is not None:
            self.trial.judge(verdict)

    def feedback(self, label: str, score: float) -> bool:
        """Record feedback, from 0 to 1. Returns False if the route has no such target."""
        state = next((state for state in self.targets if state.label == label), None)
        if state is not None:
            reward(state, score, weight=5.0)
        return state is not None


def _worth(seconds: float, cost: float) -> float:
    return 0.5 / (1 + seconds / LATENCY_SCALE_S) + 0.5 / (1 + cost / COST_SCALE_USD)


def reward(state: TargetState, score: float, weight: float = 1.0) -> None:
    """Update a bandit's distribution with a reward of 0 to 1."""
    state.alpha = 1 + (state.alpha - 1) * FORGET + weight * score
    state.beta = 1 + (state.beta - 1) * FORGET + weight * (1 - score)
    total = state.alpha + state.beta
    if total >= CERTAIN:
        mean = state.alpha / total
        state.normal = mean, math.sqrt(mean * (1 - mean) / (total + 1))
