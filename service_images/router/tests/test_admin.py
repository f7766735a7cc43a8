"""Operators change routes at run time: two replicas with a real NATS server."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from kit.bus import Bus, options
from kit.settings import ServiceSettings
from router.__main__ import create
from router.control import Control
from router.core import Core
from router.front import Front
from router.live import BUCKET, LiveRoutes
from router.overrides import Overrides
from router.routes import RouteTable

from .conftest import Running, Target, serve

WITHIN_S = 1.0
OPERATOR, CUSTOMER = "cf-operator", "cf-customer"
CANARY = {"target": "b", "steps": [0.5, 1.0], "requests_per_step": 20, "max_error_ratio": 0.1}
Recorded = list[tuple[str, dict[str, Any]]]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def table(targets: list[Target]) -> dict[str, Any]:
    """Routes of the models "m" with two targets, "trial" with a canary, and "kept" with cached answers."""
    both = [{"name": t.name, "upstream": t.url, "output_price": 1_000_000} for t in targets]
    return {
        "routes": [
            {"model": "m", "targets": both},
            {"model": "trial", "targets": both, "strategy": "canary", "canary": CANARY},
            {"model": "kept", "upstream": targets[0].url, "cache": {"any_temperature": True}},
        ],
        "tenants": [
            {"id": "default", "keys": [digest(OPERATOR)], "operator": True},
            {"id": "acme", "keys": [digest(CUSTOMER)]},
        ],
    }


class RecordingMetering:
    """Replaces Metering, and records published events."""

    def __init__(self) -> None:
        self.recorded: Recorded = []

    def tell(self, topic: str, key: str, event: dict[str, Any]) -> None:
        self.recorded.append((topic, event))

    def record(self, *_: Any) -> None:
        """Ignored: these tests are not about usage."""


class Replica:
    """A Router that follows NATS."""

    def __init__(self, url: str, content: dict[str, Any]) -> None:
        self.core = Core(RouteTable.model_validate(content))
        self.core.metering = self.metering = RecordingMetering()  # type: ignore[assignment]
        overrides = Overrides(self.core.table, self.core.reload)
        settings = ServiceSettings(name="router", nats_url=url)
        self.name = uuid.uuid4().hex
        self.live = live = LiveRoutes(url, self.core, overrides, overrides.rebase, options(settings), self.name)
        control = Control(self.core, overrides, live, Bus(settings))
        self._running, self._thread, address = serve(create(self.core, live, control=control), Front.of(self.core))
        headers = {"authorization": f"Bearer {OPERATOR}"}
        self.client = httpx.Client(base_url=address, trust_env=False, headers=headers, timeout=10)

    def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call an operator's operation."""
        return self.client.request(method, f"/v1/admin{path}", json=body)

    def ask(self, model: str = "m", content: str = "x") -> httpx.Response:
        """A question."""
        body = {"model": model, "messages": [{"role": "user", "content": content}]}
        return self.client.post("/v1/chat/completions", json=body)

    def answered_by(self, model: str, times: int = 20) -> set[str]:
        """Targets that answer requests."""
        return {self.ask(model).json()["choices"][0]["message"]["by"] for _ in range(times)}

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self._running.should_exit = True
        self._thread.join()


def becomes(holds: Callable[[], bool], within_s: float = WITHIN_S) -> bool:
    deadline = time.monotonic() + within_s
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


@pytest.fixture
def both(targets: Callable[[int], list[Target]]) -> list[Target]:
    return targets(2)


@pytest.fixture
def start(both: list[Target], nats_server: Any) -> Iterator[Callable[[], Replica]]:
    nats_server.make_buckets(BUCKET)
    made: list[Replica] = []

    def make() -> Replica:
        made.append(Replica(nats_server.url, table(both)))
        return made[-1]

    yield make
    for replica in made:
        replica.stop()


@pytest.fixture
def replicas(start: Callable[[], Replica]) -> list[Replica]:
    return [start(), start()]


def new(model: str, target: Target, **more: Any) -> dict[str, Any]:
    return {"route": {"model": model, "upstream": target.url, **more}}


def test_a_new_model_is_answered_by_all_replicas_within_a_second(replicas: list[Replica], both: list[Target]) -> None:
    one, other = replicas
    put = one.admin("PUT", "/routes/org/new", new("org/new", both[0]))
    assert put.status_code == 200, put.text
    assert one.ask("org/new").status_code == 200
    assert becomes(lambda: other.ask("org/new").status_code == 200)


def test_a_change_outlives_a_restart(replicas: list[Replica], both: list[Target], start: Callable[[], Replica]) -> None:
    replicas[0].admin("PUT", "/routes/new", new("new", both[0])).raise_for_status()
    later = start()
    assert becomes(lambda: later.ask("new").status_code == 200, 5)


def test_a_change_is_shown_with_who_made_it_and_why(replicas: list[Replica], both: list[Target]) -> None:
    one, _ = replicas
    one.admin("PUT", "/routes/m", {**new("m", both[1]), "reason": "a is slow"}).raise_for_status()
    shown = {route["model"]: route for route in one.admin("GET", "/routes").json()["data"]}
    assert [shown[name]["overridden"] for name in ("kept", "m", "trial")] == [False, True, False]
    assert (shown["m"]["by"], shown["m"]["reason"]) == ("key:default", "a is slow")
    assert shown["m"]["configured"]["model"] == "m" and shown["m"]["configured"] != shown["m"]["route"]
    assert shown["kept"]["configured"] is None


def test_a_route_is_in_force_once_every_replica_has_applied_it(
    replicas: list[Replica], both: list[Target], start: Callable[[], Replica]
) -> None:
    one, other = replicas
    third = start()

    def shown(at: Replica, model: str = "m") -> dict[str, Any]:
        return next(route for route in at.admin("GET", "/routes").json()["data"] if route["model"] == model)

    everywhere = {"in_force": 3, "of": 3, "behind": []}
    assert becomes(lambda: shown(one)["replicas"] == everywhere and shown(other)["in_force"], 10), shown(one)

    def refuse(_key: str, _content: bytes | None) -> None:
        raise ValueError("an older router does not know this")

    third.live._following._take = refuse
    one.admin("PUT", "/routes/m", new("m", both[1])).raise_for_status()
    behind = {"service": "router", "instance": third.name, "reason": "an older router does not know this"}
    assert becomes(lambda: shown(other)["replicas"] == {"in_force": 2, "of": 3, "behind": [behind]}, 10), shown(other)
    assert not shown(one)["in_force"] and shown(one)["overridden"]
    third.stop()
    assert becomes(lambda: shown(one)["in_force"] and shown(one)["replicas"]["of"] == 2, 20), shown(one)


def test_only_operators_may(replicas: list[Replica]) -> None:
    for key, status in ((CUSTOMER, 403), ("cf-nobody", 401), ("-", 401)):
        replicas[0].client.headers["authorization"] = f"Bearer {key}"
        assert replicas[0].admin("GET", "/routes").status_code == status
        assert replicas[0].admin("DELETE", "/routes/m").status_code == status


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fallbacks": ["nobody"]}, "nobody"),
        ({"attempts": 99}, "attempts"),
        ({"targets": [{"upstream": "http://127.0.0.1:1"}]}, "targets"),
        ({"strategy": "canary"}, "canary"),
        ({"model": "another"}, "route.model"),
    ],
)
def test_a_route_that_cannot_be_changes_nothing(
    replicas: list[Replica], both: list[Target], change: dict[str, Any], named: str
) -> None:
    body = new("m", both[0])
    answer = replicas[0].admin("PUT", "/routes/m", {"route": body["route"] | change})
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]
    assert not replicas[0].admin("GET", "/routes/m").json()["overridden"]


def test_concurrent_changes_of_a_route_do_not_overwrite_each_other(replicas: list[Replica], both: list[Target]) -> None:
    one, other = replicas
    first = one.admin("PUT", "/routes/m", {**new("m", both[0]), "revision": 0}).json()
    assert other.admin("PUT", "/routes/m", {**new("m", both[1]), "revision": 0}).status_code == 409
    again = other.admin("PUT", "/routes/m", {**new("m", both[1]), "revision": first["revision"]})
    assert again.status_code == 200
    assert one.admin("PUT", "/routes/m", {**new("m", both[0]), "revision": first["revision"]}).status_code == 409


def test_removing_an_override_restores_the_configured_route(replicas: list[Replica], both: list[Target]) -> None:
    one, other = replicas
    one.admin("PUT", "/routes/m", new("m", both[1])).raise_for_status()
    assert becomes(lambda: other.admin("GET", "/routes/m").json()["overridden"])
    assert other.admin("DELETE", "/routes/m").status_code == 204
    assert other.answered_by("m") == {"a", "b"}
    assert becomes(lambda: not one.admin("GET", "/routes/m").json()["overridden"])
    assert other.admin("DELETE", "/routes/m").status_code == 404


def test_a_withdrawn_model_is_not_answered(replicas: list[Replica]) -> None:
    one, other = replicas
    one.admin("POST", "/routes/m/withdraw", {"reason": "it says wrong things"}).raise_for_status()
    assert becomes(lambda: other.ask("m").status_code == 404)
    assert other.ask("kept").status_code == 200


def test_weights_move_the_traffic(replicas: list[Replica]) -> None:
    one, other = replicas
    one.admin("PUT", "/routes/m/weights", {"weights": {"a": 0}}).raise_for_status()
    assert one.answered_by("m") == {"b"}
    assert becomes(lambda: other.answered_by("m") == {"b"})


@pytest.mark.parametrize("weights", [{"nobody": 1}, {"a": 0, "b": 0}, {"a": -1}, {}])
def test_weights_that_cannot_be_are_refused(replicas: list[Replica], weights: dict[str, float]) -> None:
    assert replicas[0].admin("PUT", "/routes/m/weights", {"weights": weights}).status_code == 400
    assert replicas[0].answered_by("m") == {"a", "b"}


def decide(replica: Replica, course: str) -> None:
    replica.admin("POST", "/routes/trial/canary", {"course": course, "reason": "of this test"}).raise_for_status()


def test_an_aborted_canary_gets_no_requests_until_it_is_restarted(
    replicas: list[Replica], start: Callable[[], Replica]
) -> None:
    one, other = replicas
    decide(one, "aborted")
    assert one.answered_by("trial") == {"a"}
    assert becomes(lambda: other.core.routes["trial"].describe(0)["canary"]["failed"] == "of this test")
    later = start()
    assert becomes(lambda: later.core.routes["trial"].describe(0)["canary"]["share"] == 0, 5)
    decide(other, "running")
    assert other.answered_by("trial") == {"a", "b"}
    assert becomes(lambda: one.core.routes["trial"].describe(0)["canary"]["share"] == 0.5)


def test_a_promoted_canary_gets_all_requests(replicas: list[Replica]) -> None:
    one, other = replicas
    decide(one, "promoted")
    assert one.answered_by("trial") == {"b"}
    assert becomes(lambda: other.answered_by("trial") == {"b"})


def test_a_canary_that_fails_at_one_replica_is_aborted_at_all(replicas: list[Replica], both: list[Target]) -> None:
    one, other = replicas
    both[1].status = 500
    assert becomes(lambda: bool(one.ask("trial") and one.core.routes["trial"].trial.failed), 5)  # type: ignore[union-attr]
    failed = one.core.routes["trial"].describe(0)["canary"]["failed"]
    assert becomes(lambda: other.core.routes["trial"].describe(0)["canary"]["failed"] == failed, 2)
    assert becomes(lambda: bool(one.metering.recorded))
    (recorded,) = [event["data"] for _, event in one.metering.recorded]
    assert (recorded["change"], recorded["actor"], recorded["reason"]) == ("canary-aborted", "service:router", failed)


def test_a_decision_about_an_earlier_canary_does_not_affect_the_next_one(
    replicas: list[Replica], both: list[Target]
) -> None:
    one, _ = replicas
    decide(one, "aborted")
    targets = [{"name": t.name, "upstream": t.url, "upstream_model": "next"} for t in both]
    route = {"model": "trial", "targets": targets, "strategy": "canary", "canary": CANARY}
    one.admin("PUT", "/routes/trial", {"route": route}).raise_for_status()
    assert one.core.routes["trial"].describe(0)["canary"]["share"] == 0.5


def test_a_model_without_a_canary_has_nothing_to_decide(replicas: list[Replica]) -> None:
    assert replicas[0].admin("POST", "/routes/m/canary", {"course": "aborted"}).status_code == 409
    assert replicas[0].admin("POST", "/routes/nobody/canary", {"course": "aborted"}).status_code == 404


def test_kept_answers_are_dropped_in_all_replicas(replicas: list[Replica], both: list[Target]) -> None:
    one, other = replicas
    for _ in range(2):
        one.ask("kept"), other.ask("kept")
    assert len(both[0].seen) == 2, "each has kept its own"
    assert one.admin("POST", "/cache/clear").status_code == 204

    def both_ask_again() -> bool:
        one.ask("kept"), other.ask("kept")
        return len(both[0].seen) == 4

    assert becomes(both_ask_again)


def test_every_change_is_published_with_its_actor(replicas: list[Replica], both: list[Target]) -> None:
    one, _ = replicas
    one.admin("PUT", "/routes/m", {**new("m", both[1], attempts=2), "reason": "why"}).raise_for_status()
    one.admin("DELETE", "/routes/m").raise_for_status()
    recorded = [event for topic, event in one.metering.recorded if topic == "route.changed.v1"]
    assert {(event["subject"], event["data"]["actor"]) for event in recorded} == {("route/m", "key:default")}
    assert [event["data"]["change"] for event in recorded] == ["set", "deleted"]
    assert recorded[0]["data"]["after"] == {"route": {"model": "m", "upstream": f"{both[1].url}/", "attempts": 2}}


def test_without_nats_routes_cannot_change_and_requests_continue(
    replicas: list[Replica], both: list[Target], nats_server: Any
) -> None:
    nats_server.kill()
    assert replicas[0].admin("PUT", "/routes/new", new("new", both[0])).status_code == 503
    assert replicas[0].ask("m").status_code == 200
    assert replicas[0].ask("new").status_code == 404


def test_a_router_of_a_file_alone_shows_its_routes_and_changes_none(
    running: Callable[..., Running], targets: Callable[[int], list[Target]]
) -> None:
    router = running(targets(1))
    assert [r["model"] for r in router.client.get("/v1/admin/routes").json()["data"]] == ["m"]
    assert router.client.post("/v1/admin/routes/m/withdraw", json={}).json()["error"]["code"] == "not_live"
