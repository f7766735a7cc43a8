"""Answers to clients while targets fail, are slow, or interrupt streams; and shared answers."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from kit.directory import Grant

from .conftest import until

Targets = Callable[[int], list[Any]]
Running = Callable[..., Any]


def words(events: list[Any]) -> str:
    deltas = [e["choices"][0]["delta"].get("content") or "" for e in events if e != "[DONE]" and e.get("choices")]
    return "".join(deltas).strip()


def asked_until(seen: Callable[[], object], ask: Callable[[], Any]) -> list[Any]:
    """Answers until a target was called. The choice is random: one of two stays unused in 64 tries in 1 of 2^64."""
    answers: list[Any] = []
    while not seen():
        assert len(answers) < 64, "it was never asked"
        answers.append(ask())
    return answers


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_target_that_fails_is_made_up_for(targets: Targets, running: Running, status: int) -> None:
    bad, good = targets(2)
    bad.status = status
    router = running([bad, good])
    assert [router.ask().status_code for _ in range(20)] == [200] * 20
    assert len(bad.seen) < 20, "its breaker opened"


def test_a_target_that_is_gone_is_made_up_for(targets: Targets, running: Running) -> None:
    gone, good = targets(2)
    gone.stop()
    assert [running([gone, good]).ask().status_code for _ in range(10)] == [200] * 10


def test_client_errors_are_not_retried_on_another_target(targets: Targets, running: Running) -> None:
    one, other = targets(2)
    one.status = other.status = 400
    assert running([one, other]).ask().status_code == 400
    assert len(one.seen) + len(other.seen) == 1


def test_attempts_are_limited(targets: Targets, running: Running) -> None:
    among = targets(4)
    for target in among:
        target.status = 500
    assert running(among, attempts=2).ask().status_code == 502
    assert sum(len(t.seen) for t in among) == 2


def test_another_model_answers_where_this_one_cannot(targets: Targets, running: Running) -> None:
    bad, good = targets(2)
    bad.status = 500
    router = running([bad])
    table = router.core.table.model_dump(mode="json")
    table["routes"][0]["fallbacks"] = ["spare"]
    table["routes"].append({"model": "spare", "targets": [{"name": "s", "upstream": good.url}]})
    router.core.reload(type(router.core.table).model_validate(table))
    answer = router.ask()
    assert answer.status_code == 200
    assert good.seen[0]["model"] == "spare"


def test_a_target_without_a_first_token_in_time_is_passed_over(targets: Targets, running: Running) -> None:
    slow, fast = targets(2)
    slow.delay_s = 3
    router = running([slow, fast], first_token_seconds=0.1)
    started = time.monotonic()
    answers = asked_until(lambda: slow.seen, lambda: router.ask().json()["choices"][0]["message"]["by"])
    assert set(answers) == {"b"}
    assert time.monotonic() - started < 2.5


def test_a_slow_target_is_hedged(targets: Targets, running: Running) -> None:
    slow, fast = targets(2)
    slow.delay_s = 4  # less than the time limit: without a hedge, its answer would arrive
    router = running([slow, fast], hedge_seconds=0.1)
    answers = asked_until(lambda: slow.seen, lambda: router.ask().json()["choices"][0]["message"]["by"])
    assert set(answers) == {"b"}


def test_the_time_limit_is_of_all_attempts_together(targets: Targets, running: Running) -> None:
    among = targets(3)
    for target in among:
        target.delay_s = 10
    router = running(among, timeout_seconds=0.5, first_token_seconds=0.2)
    started = time.monotonic()
    answer = router.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert time.monotonic() - started < 1.0


def test_a_stream_that_breaks_off_is_gone_on_with_elsewhere(targets: Targets, running: Running) -> None:
    breaking, good = targets(2)
    breaking.words = good.words = ["the", "quick", "brown", "fox", "jumps"]
    breaking.break_after = 2
    router = running([breaking, good])
    for events in asked_until(lambda: breaking.seen, router.stream):
        assert words(events) == "the quick brown fox jumps"
        assert events[-1] == "[DONE]"
    taken_over = [body for body in good.seen if body.get("continue_final_message")]
    assert taken_over
    assert taken_over[0]["messages"][-1] == {"role": "assistant", "content": "the quick "}


def test_a_stream_that_no_target_can_continue_ends_with_an_error_event(targets: Targets, running: Running) -> None:
    (only,) = targets(1)
    only.break_after = 0
    assert running([only]).stream()[-1]["error"]["code"] == "stream_interrupted"


def test_usage_that_the_client_did_not_request_is_counted_and_hidden(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[{"id": "t", "clients": ["c"], "budget_usd": 1000}])
    events = router.stream(headers={"x-client-id": "c"})
    assert not [e for e in events if e != "[DONE]" and e.get("usage")]
    assert router.core.accounts.all()[0].spent == pytest.approx(3.0)  # three words at a dollar each


def test_usage_that_the_client_requested_is_forwarded(targets: Targets, running: Running) -> None:
    events = running(targets(1)).stream(stream_options={"include_usage": True})
    assert [e["usage"]["completion_tokens"] for e in events if e != "[DONE]" and e.get("usage")] == [3]


def test_a_client_that_leaves_takes_its_request_along(targets: Targets, running: Running) -> None:
    (slow,) = targets(1)
    slow.delay_s = 5
    router = running([slow])
    with pytest.raises(httpx.ReadTimeout):
        router.client.post(
            "/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": "x"}]}, timeout=0.3
        )
    deadline = time.monotonic() + 2
    while router.core.in_flight and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not router.core.in_flight
    assert router.core.routes["m"].targets[0].in_flight == 0


# --- tenants ------------------------------------------------------------------------------------


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_a_tenant_needs_its_key(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[{"id": "t", "keys": [digest("cf-1")]}])
    assert router.ask(headers={"authorization": "Bearer cf-1"}).status_code == 200
    wrong = router.ask(headers={"authorization": "Bearer cf-2"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_model_of_others_does_not_exist(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[{"id": "t", "clients": ["c"], "models": ["another"]}])
    assert router.ask(headers={"x-client-id": "c"}).status_code == 404


def test_too_many_requests_get_a_retry_after(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[{"id": "t", "clients": ["c"], "requests_per_minute": 3}])
    answers = [router.ask(headers={"x-client-id": "c"}) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 21


def test_a_budget_ends(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[{"id": "t", "clients": ["c"], "budget_usd": 10}])
    answers = [router.ask(max_tokens=3, headers={"x-client-id": "c"}) for _ in range(6)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429, 429]
    assert answers[-1].json()["error"]["code"] == "insufficient_quota"


# --- cache --------------------------------------------------------------------------------------


CACHED = {"cache": {"ttl_seconds": 60, "any_temperature": True}}


def test_an_equal_request_is_answered_from_the_cache(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], **CACHED)
    first, second = router.ask(), router.ask()
    assert second.json() == first.json()
    assert second.headers["x-cache"] == "hit"
    assert len(target.seen) == 1


def test_only_deterministic_answers_are_cached_by_default(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], cache={"ttl_seconds": 60})
    for temperature in (None, 0.7, 0, 0):
        router.ask(temperature=temperature)
    assert len(target.seen) == 3


def test_a_failure_is_not_kept(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], attempts=1, **CACHED)
    target.status = 500
    assert router.ask().status_code == 502
    target.status = 200
    assert router.ask().status_code == 200


def test_tenants_do_not_share_answers(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], tenants=[{"id": n, "clients": [n]} for n in "xy"], **CACHED)
    for name in "xyxy":
        router.ask(headers={"x-client-id": name})
    assert len(target.seen) == 2


def test_clients_of_the_gateway_do_not_share_answers(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], **CACHED)
    for name in "xyxy":
        router.ask(headers={"x-client-id": name})
    assert len(target.seen) == 2


def test_concurrent_equal_requests_call_the_model_once(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.delay_s = 0.3
    router = running([target], **CACHED)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: router.ask(), range(16)))
    assert {a.status_code for a in answers} == {200}
    assert len(target.seen) == 1


def test_a_request_that_waited_for_a_failed_one_calls_the_model_itself(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.delay_s, target.status = 0.3, 400
    router = running([target], **CACHED)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: router.ask(), range(4)))
    assert {a.status_code for a in answers} == {400}


def test_a_waiting_client_that_disconnects_does_not_affect_others(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.released = threading.Event()
    router = running([target], **CACHED)
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

    def impatient() -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{router.url}/v1/chat/completions", json=body, timeout=0.2, trust_env=False)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(router.ask)
        until(lambda: len(target.seen) == 1)
        gone, *rest = pool.submit(impatient), pool.submit(router.ask), pool.submit(router.ask)
        gone.result()
        target.released.set()
        assert [one.result().status_code for one in (first, *rest)] == [200] * 3
    assert len(target.seen) == 1


def test_a_repeated_request_is_done_once(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target])
    first, second, other = (router.ask(headers={"idempotency-key": key}) for key in ("k1", "k1", "k2"))
    assert second.json() == first.json()
    assert other.status_code == 200
    assert len(target.seen) == 2


def test_a_request_repeated_while_it_runs_waits_for_its_answer(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.delay_s = 0.3
    router = running([target])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: router.ask(headers={"idempotency-key": "k"}), range(4)))
    assert {a.status_code for a in answers} == {200}
    assert len(target.seen) == 1


def test_a_key_of_another_request_is_refused(targets: Targets, running: Running) -> None:
    router = running(targets(1))
    router.ask("one", headers={"idempotency-key": "k"})
    answer = router.ask("two", headers={"idempotency-key": "k"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_failed_request_can_be_repeated(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], attempts=1)
    target.status = 500
    assert router.ask(headers={"idempotency-key": "k"}).status_code == 502
    target.status = 200
    assert router.ask(headers={"idempotency-key": "k"}).status_code == 200


# --- feedback, reload, connections --------------------------------------------------------------


def test_feedback_reaches_the_bandit(targets: Targets, running: Running) -> None:
    router = running(targets(2), strategy="bandit")
    answer = router.ask()
    given = {"request_id": answer.headers["x-request-id"], "score": 1}
    assert router.client.post("/v1/feedback", json=given).status_code == 204
    assert router.client.post("/v1/feedback", json=given).status_code == 404, "each answer is judged once"


def test_feedback_is_for_ones_own_requests(targets: Targets, running: Running) -> None:
    names = ("asker", "same-user", "colleague", "other-key", "stranger")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    tenants = [
        {"id": "acme", "keys": [digests["colleague"], digests["other-key"]]},
        {"id": "rival", "keys": [digests["stranger"]]},
    ]
    router = running(targets(2), tenants=tenants, strategy="bandit")
    for name, user in (("asker", "ann"), ("same-user", "ann"), ("colleague", "bob")):
        grant = Grant("acme", name, user=user, scopes=("inference",))
        router.core.accounts.grant(bytes.fromhex(digests[name]), grant)

    def judged(by: str, request_id: str) -> int:
        given = {"request_id": request_id, "score": 1}
        return router.client.post("/v1/feedback", json=given, headers={"authorization": f"Bearer {by}"}).status_code

    def asked(by: str) -> str:
        return router.ask(headers={"authorization": f"Bearer {by}"}).headers["x-request-id"]

    mine, keys = asked("asker"), asked("other-key")
    assert [judged(by, mine) for by in ("stranger", "colleague", "other-key", "same-user")] == [404, 404, 404, 204]
    assert [judged(by, keys) for by in ("stranger", "asker", "other-key")] == [404, 404, 204]


@pytest.mark.parametrize("body", [b"{", b'{"request_id": "x", "score": 2}', b"[]"])
def test_bad_feedback_is_explained(targets: Targets, running: Running, body: bytes) -> None:
    answer = running(targets(1), strategy="bandit").client.post("/v1/feedback", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_reload_fails_no_request(targets: Targets, running: Running) -> None:
    one, other = targets(2)
    router = running([one])
    table = router.core.table.model_dump(mode="json")
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(router.ask().status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(20):
        table["revision"] = number + 1
        table["routes"][0]["targets"] = [{"name": "t", "upstream": (one, other)[number % 2].url}]
        router.core.reload(type(router.core.table).model_validate(table))
        time.sleep(0.02)
    stop.set()
    thread.join()
    assert set(statuses) == {200}
    assert other.seen


def test_pipelined_requests_are_answered_in_order(targets: Targets, running: Running) -> None:
    import socket

    router = running(targets(1))
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-request-id: %d\r\ncontent-length: %d\r\n\r\n"
    sent = b"".join(head % (number, len(body)) + body for number in range(5))
    sent += b"GET /v1/models HTTP/1.1\r\nhost: h\r\nx-request-id: 5\r\nconnection: close\r\n\r\n"
    host, port = router.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while data := connection.recv(65536):
            received += data
    found = [line[-1:] for line in received.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert found == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_an_http_1_0_client_gets_a_stream_without_chunks(targets: Targets, running: Running) -> None:
    import socket

    router = running(targets(1))
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
    head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
    host, port = router.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head + body)
        received = b""
        while data := connection.recv(65536):
            received += data
    assert b"transfer-encoding" not in received
    assert received.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("silent_s", [0, 0.3])
def test_an_idle_connection_is_closed_in_the_end(
    targets: Targets, running: Running, monkeypatch: pytest.MonkeyPatch, silent_s: float
) -> None:
    import socket

    monkeypatch.setattr("router.core.WATCH_S", 0.1)
    router = running(targets(1))
    router.server.config.timeout_keep_alive = 1
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    host, port = router.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        time.sleep(silent_s)  # a client that connects before it has a request
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        received = b""
        while data := connection.recv(65536):  # until the connection is closed
            received += data
    assert received.startswith(b"HTTP/1.1 200 OK")
