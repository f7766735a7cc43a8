"""Requests that are refused early, and the headers of all answers."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import limits
from kit.errors import ApiError
from router import metering, payload
from router.upstream import seconds

from .conftest import until

Targets = Callable[[int], list[Any]]
Running = Callable[..., Any]
HELLO = {"role": "user", "content": "hello"}


def tenant(**more: Any) -> dict[str, Any]:
    return {"id": "t", "keys": [hashlib.sha256(f"key-{n}".encode()).hexdigest() for n in range(3)], **more}


def with_key(number: int = 0, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-{number}", **more}


# --- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("user", "a\0b", "U+0000"),
        ("user", "a\nb", "U+000A"),
        ("user", "\x85", "U+0085"),
        ("user", "u" * 257, "at most 256"),
        ("user", "u" * 60_000, "has 60000 characters"),
        ("user", "u" * 1_100_000, "has 1100000 characters"),
        ("metadata", {f"k{n}": "v" for n in range(17)}, "at most 16"),
        ("metadata", {"k" * 65: "v"}, "at most 64"),
        ("metadata", {"k": "v" * 513}, "at most 512"),
        ("metadata", {"k": 1}, "must be a text"),
        ("metadata", {"a\0": "v"}, "U+0000"),
        ("metadata", ["k"], "must be an object"),
        ("model", "m" * 201, "at most 200"),
    ],
)
def test_a_field_that_no_event_can_hold_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(ApiError) as error:
        payload.read(b"/v1/chat/completions", json.dumps({"model": "m", "messages": [HELLO], field: value}).encode())
    assert error.value.status == 400
    assert (error.value.param or "").startswith(field)
    assert said in error.value.message
    assert len(error.value.message) < 1000


def test_all_mistakes_are_reported_at_once() -> None:
    body = {"model": "m", "messages": [HELLO], "user": "a\0", "metadata": {"k": 1, "j": "v" * 600}}
    with pytest.raises(ApiError) as error:
        payload.read(b"/v1/chat/completions", json.dumps(body).encode())
    for path in ("user", "metadata.k", "metadata.j"):
        assert path in error.value.message


def test_a_refused_field_reaches_no_model(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target])
    assert router.ask(user="a\0b").json()["error"]["param"] == "user"
    message = {"model": "m", "max_tokens": 9, "messages": [HELLO], "metadata": {"user_id": "x" * 300}}
    assert router.client.post("/v1/messages", json=message).status_code == 400
    assert router.ask(user="é" * 256).status_code == 200
    assert len(target.seen) == 1


@pytest.mark.parametrize(
    "field",
    ["stream", "prompt", "max_tokens", "max_completion_tokens", "n", "temperature", "user", "metadata",
     "stream_options", "tools", "stop", "seed"],
)  # fmt: skip
def test_null_is_as_absent(targets: Targets, running: Running, field: str) -> None:
    assert running(targets(1)).ask(**{field: None}).status_code == 200


def test_a_stream_with_null_options_is_metered_and_sent_once(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target])
    assert router.stream(stream_options=None)[-1] == "[DONE]"
    assert target.seen[0]["stream_options"] == {"include_usage": True}


LONGEST = {
    "tenant": limits.TENANT, "user": limits.USER, "model": limits.MODEL, "target": limits.ID,
    "request": limits.REQUEST_ID,
}  # fmt: skip


@given(st.fixed_dictionaries({name: st.text(max_size=limit.most) for name, limit in LONGEST.items()}))
def test_no_usage_event_is_too_large_for_kafka_or_an_audit_entry(fields: dict[str, str]) -> None:
    numbers = {"input_tokens": 2**31, "output_tokens": 2**31, "status": 599, "duration_ms": 1e9, "cost_usd": 1e12}
    used = metering.Used(
        **fields, operation="completion", cached=False, estimated=True, unchecked="unanswered", **numbers
    )  # type: ignore[arg-type]
    event = metering.UsageEvent(id="i" * 40, time="t" * 40, subject="s" * 140, traceparent="p" * 55, data=used)
    assert len(metering._encode(event)) < limits.AUDIT_ENTRY.most // 4 < limits.KAFKA_MESSAGE.most


# --- an Idempotency-Key ----------------------------------------------------------------------------


def streamed(router: Any, number: int = 0, key: str = "once", **more: Any) -> Any:
    return router.ask(stream=True, headers=with_key(number, **{"idempotency-key": key}), **more)


def test_a_repeated_stream_calls_the_model_once_with_the_same_answer(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], tenants=[tenant(budget_usd=1e9)])
    first, second = streamed(router), streamed(router)
    assert first.text == second.text
    assert second.headers["x-cache"] == "hit"
    assert second.headers["content-type"] == "text/event-stream"
    assert len(target.seen) == 1
    assert router.core.accounts.all()[0].spent == pytest.approx(3)


def test_a_repeated_stream_of_messages_is_answered_the_same(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    router = running([target], tenants=[tenant()])
    body = {"model": "m", "max_tokens": 9, "messages": [HELLO], "stream": True}
    headers = with_key(**{"idempotency-key": "once"})
    answers = [router.client.post("/v1/messages", json=body, headers=headers).text for _ in range(2)]
    assert answers[0] == answers[1]
    assert "message_stop" in answers[0]
    assert len(target.seen) == 1


def test_a_repeated_stream_is_refused_while_the_first_one_runs(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.delay_s = 1.5
    router = running([target], tenants=[tenant()])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(streamed, router)
        until(lambda: target.seen)
        second = streamed(router)
        assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
        assert first.result().status_code == 200
    assert streamed(router).text == first.result().text
    assert len(target.seen) == 1


def test_another_stream_under_the_same_key_is_refused(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[tenant()])
    streamed(router)
    assert streamed(router, content="something else").json()["error"]["code"] == "idempotency_key_reused"


def test_a_failed_stream_can_be_requested_again(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.break_after = 1
    router = running([target], tenants=[tenant()], attempts=1)
    assert "stream_interrupted" in streamed(router).text
    target.break_after = None
    assert "[DONE]" in streamed(router).text


@pytest.mark.parametrize("stream", [False, True])
def test_users_of_a_tenant_do_not_share_their_keys_answers(targets: Targets, running: Running, stream: bool) -> None:
    (target,) = targets(1)
    router = running([target], tenants=[tenant()])
    for number in range(2):
        headers = with_key(number, **{"idempotency-key": "once"})
        assert "x-cache" not in router.ask(stream=stream, headers=headers).headers
    assert len(target.seen) == 2


@pytest.mark.parametrize("key", ["k" * 256, "a b", "é"])
def test_an_idempotency_key_that_is_no_short_text_is_refused(targets: Targets, running: Running, key: str) -> None:
    headers = [(b"idempotency-key", key.encode())]
    answer = running(targets(1)).client.post(
        "/v1/chat/completions", json={"model": "m", "messages": [HELLO]}, headers=headers
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


# --- headers ---------------------------------------------------------------------------------------


def test_answers_report_the_remaining_rates(targets: Targets, running: Running) -> None:
    limited = tenant(requests_per_minute=10, tokens_per_minute=6000)
    router = running(targets(1), tenants=[limited])
    for answer in (router.ask(headers=with_key()), router.ask(stream=True, headers=with_key())):
        assert answer.headers["x-ratelimit-limit-requests"] == "10"
        assert 0 <= int(answer.headers["x-ratelimit-remaining-requests"]) < 10
        assert answer.headers["x-ratelimit-limit-tokens"] == "6000"
        assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 6000
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    wrong = router.ask(model="other", headers=with_key())
    assert wrong.status_code == 404
    assert wrong.headers["x-ratelimit-limit-requests"] == "10"


def test_a_refused_request_gets_a_retry_after(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[tenant(requests_per_minute=1)])
    router.ask(headers=with_key())
    answer = router.ask(headers=with_key())
    assert answer.status_code == 429
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(answer.headers["retry-after"]) <= 61
    assert answer.headers["x-request-id"]


def test_anthropics_clients_read_their_rate_headers(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[tenant(requests_per_minute=10, tokens_per_minute=6000)])
    body = {"model": "m", "max_tokens": 9, "messages": [HELLO]}
    answer = router.client.post("/v1/messages", json=body, headers=with_key())
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "10"
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "9"
    assert answer.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")


def test_a_tenant_without_limits_gets_no_rate_headers(targets: Targets, running: Running) -> None:
    headers = running(targets(1), tenants=[tenant()]).ask(headers=with_key()).headers
    assert not [name for name in headers if name.startswith("x-ratelimit")]
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("stream", [False, True])
def test_only_operators_see_where_a_model_runs(targets: Targets, running: Running, stream: bool) -> None:
    own = hashlib.sha256(b"operators-key").hexdigest()
    router = running(targets(1), tenants=[tenant(), {"id": "o", "keys": [own], "operator": True}])
    reported = [
        router.ask(stream=stream, headers=h).headers for h in (with_key(), {"authorization": "Bearer operators-key"})
    ]
    assert "x-router-target" not in reported[0]
    assert reported[1]["x-router-target"] == "a"


@pytest.mark.parametrize(
    ("sent", "status"), [(b"GET /\x00 HTTP/1.1\r\n\r\n", 400), (b"POST /v1/messages HTTP/1.1\r\nhost: h\r\n\r\n", 400)]
)
def test_each_error_has_a_request_id(targets: Targets, running: Running, sent: bytes, status: int) -> None:
    host, port = running(targets(1)).url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        head = connection.recv(65536).lower()
    assert head.startswith(b"http/1.1 %d" % status)
    assert b"\r\nx-request-id: " in head


# --- an upstream's Retry-After ---------------------------------------------------------------------


def error_answer(says: Any, status: int, after: str) -> Any:
    body = b'{"error":{"message":"slow down"}}'
    return says([body], status=status, headers={"content-type": "application/json", "retry-after": after})


@pytest.mark.parametrize("status", [429, 503])
def test_an_upstream_is_not_called_before_its_retry_after(says: Any, running: Running, status: int) -> None:
    upstream = error_answer(says, status, "7")
    router = running([upstream])
    for _ in range(3):
        answer = router.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "upstream_rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 8
    assert len(upstream.seen) == 1


def test_another_target_answers_meanwhile(says: Any, targets: Targets, running: Running) -> None:
    upstream = error_answer(says, 429, "60")
    router = running([upstream, *targets(1)])
    assert [router.ask().status_code for _ in range(12)] == [200] * 12
    assert len(upstream.seen) <= 1


def test_an_upstream_is_called_again_after_its_retry_after(says: Any, running: Running) -> None:
    upstream = error_answer(says, 429, "0.3")
    router = running([upstream])
    router.ask()
    before = time.monotonic()
    until(lambda: router.ask() and len(upstream.seen) > 1)
    assert time.monotonic() - before > 0.1


def test_times_of_retry_after_are_seconds_or_dates() -> None:
    now = 1_800_000_000.0
    assert seconds(b"7", now) == 7
    assert seconds(b" 0.5 ", now) == 0.5
    assert seconds(formatdate(now + 30, usegmt=True).encode(), now) == 30
    assert seconds(formatdate(now - 30, usegmt=True).encode(), now) == 0
    assert seconds(b"99999999", now) == 86_400
    for bad in (b"", b"soon", b"-1", b"nan", b"\xff", b"inf"):
        assert seconds(bad, now) in (0, 86_400)
