"""Model servers of the platform: each receives its own key, which nobody else sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from router import credentials
from router.discovery import route_of

Running = Callable[..., Any]
KEY = "key-of-the-model-server-0123456789"
CALLER = "cf-the-callers-own-key"
TENANT = {"id": "t", "keys": [hashlib.sha256(CALLER.encode()).hexdigest()]}
JSON = {"content-type": "application/json"}
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
}


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mounted file with the key of the server at 127.0.0.1."""
    monkeypatch.setattr(credentials, "FOLDER", tmp_path)
    monkeypatch.setattr(credentials, "LOOK_S", 0.0)
    file = tmp_path / credentials.INSIDE / "127.0.0.1"
    file.parent.mkdir()
    file.write_text(KEY)
    return file


def router_over(running: Running, *upstreams: Any, **route: Any) -> Any:
    router = running([], targets=[{"upstream": one.url} for one in upstreams], tenants=[TENANT], **route)
    router.client.headers["authorization"] = f"Bearer {CALLER}"
    return router


def completing(says: Any) -> Any:
    return says([json.dumps(COMPLETION).encode()], 200, JSON)


def test_a_model_server_is_shown_its_key_and_not_the_callers(
    says: Any, running: Running, key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream = completing(says)
    answer = router_over(running, upstream).ask()
    assert answer.status_code == 200
    (head,) = upstream.heads
    assert head["authorization"] == f"Bearer {KEY}" and CALLER not in str(head)
    assert "traceparent" in head and "x-request-id" in head, "a server of ours is part of the trace"
    assert KEY not in answer.text + str(answer.headers) + "".join(capfd.readouterr())


@pytest.mark.parametrize(("path", "text"), [("completions", "prompt"), ("embeddings", "input"), ("responses", "input")])
def test_every_path_shows_the_key(says: Any, running: Running, key: Path, path: str, text: str) -> None:
    upstream = says([b"{}"], 200, JSON)
    router = router_over(running, upstream)
    router.client.post(f"/v1/{path}", json={"model": "m", text: "x"})
    assert [head["authorization"] for head in upstream.heads] == [f"Bearer {KEY}"]


def test_readiness_and_the_count_of_tokens_show_the_key(says: Any, running: Running, key: Path) -> None:
    upstream = says([b'{"count": 3}'], 200, JSON)
    router = router_over(running, upstream)
    assert router.client.get("/readyz").status_code == 200
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    assert router.client.post("/v1/messages/count_tokens", json=asked).json() == {"input_tokens": 3}
    assert {head["path"]: head["authorization"] for head in upstream.heads} == {
        "/v1/models": f"Bearer {KEY}", "/tokenize": f"Bearer {KEY}",
    }  # fmt: skip


def test_a_key_is_replaced_while_the_router_runs(says: Any, running: Running, key: Path) -> None:
    upstream = completing(says)
    router = router_over(running, upstream)
    router.ask()
    another = key.with_name("..data")
    another.write_text("another-key-of-the-server")
    another.replace(key)
    router.ask()
    assert [head["authorization"] for head in upstream.heads] == [f"Bearer {KEY}", "Bearer another-key-of-the-server"]


def test_a_key_is_sent_to_its_own_host_only(says: Any, running: Running, key: Path) -> None:
    key.rename(key.with_name("model-other.cogniforge"))
    upstream = completing(says)
    assert router_over(running, upstream).ask().status_code == 200, "a server may want no key"
    assert "authorization" not in upstream.heads[0]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_refuses_the_key_is_as_one_that_fails(
    says: Any, running: Running, key: Path, capfd: pytest.CaptureFixture[str], status: int, stream: bool
) -> None:
    """The server already has a new key, and the Router does not: another target answers, if there is one."""
    refusing = says([json.dumps({"error": {"message": f"Bad key {KEY}"}}).encode()], status, JSON)
    alone = router_over(running, refusing, attempts=1).ask(stream=stream)
    assert alone.status_code == 502 and KEY not in alone.text + str(alone.headers)
    targets = [{"upstream": refusing.url, "name": "a"}, {"upstream": completing(says).url, "name": "b"}]
    both = running([], targets=targets, attempts=2)
    assert {both.ask().status_code for _ in range(4)} == {200}
    assert KEY not in "".join(capfd.readouterr())


def test_a_server_that_kserve_reports_is_shown_the_key_of_its_full_name(running: Running, key: Path) -> None:
    full = "model-m-predictor.cogniforge.svc.cluster.local"
    key.rename(key.with_name(full))
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "address": {"url": f"http://{full}"}}
    found = route_of({"metadata": {"name": "m"}, "status": ready})
    assert found is not None
    router = running([], targets=[{"upstream": str(found.servers[0].upstream)}])
    (target,) = router.core.routes["m"].targets
    assert target.authorization() == f"authorization: Bearer {KEY}\r\n".encode()
