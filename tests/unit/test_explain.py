"""`forge explain`, against a gateway that answers according to the services' documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli import audit_log, explain, gateway, jobs, stack
from cli import spans as spans_of
from components.config.parse import parse
from components.config.traces import Traces
from local.errors import LocalError
from tests.unit.api_double import KEY, Gateway, running
from tests.unit.test_cli_output import Run, golden, run
from tests.unit.test_platform import without_servers

__all__ = ["run"]
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRACE = "0af7651916cd43dd8448eb211c80319c"
ATTEMPTS: list[dict[str, Any]] = [
    {"target": "gpu-a", "model": "demo", "begun_ms": 0.4, "duration_ms": 300.9, "outcome": "overtaken"},
    {"target": "gpu-b", "model": "demo", "begun_ms": 250.6, "duration_ms": 91.5, "outcome": "interrupted",
     "reason": "the connection was closed", "hedge": True},
    {"target": "gpu-c", "model": "spare", "begun_ms": 342.2, "duration_ms": 401.0, "outcome": "answered",
     "continues": True},
]  # fmt: skip
CHOICE = {
    "strategy": "bandit",
    "targets": [
        {"target": "gpu-a", "score": 0.91, "in_flight": 3},
        {"target": "gpu-c", "score": 0.48, "in_flight": 0, "broken": True},
    ],
}
DATA: dict[str, Any] = {
    "tenant": "acme", "user": "ann", "key": "k1", "scopes": ["inference", "billing"], "model": "demo", "route": "spare",
    "target": "gpu-c", "operation": "chat", "input_tokens": 1200, "output_tokens": 345, "cached": False, "status": 200,
    "duration_ms": 743.2, "first_token_ms": 301.3, "request": "r-1", "cost_usd": 0.0052, "estimated": True,
    "unchecked": "", "prompt": "greeting@3", "guard": {"input": "redact", "output": "allow"}, "attempts": ATTEMPTS,
    "choice": CHOICE,
}  # fmt: skip
LINES = [
    {"kind": "input", "quantity": 1200, "unit_usd": "2", "per": 1000000, "usd": "0.0024", "price_tenant": "",
     "price_model": "*", "price_begins": "2026-01-01T00:00:00Z"},
    {"kind": "output", "quantity": 345, "unit_usd": "8", "per": 1000000, "usd": "0.00276", "price_tenant": "acme",
     "price_model": "demo", "price_begins": "2026-02-01T00:00:00Z"},
]  # fmt: skip
COST: dict[str, Any] = {
    "event": "e1", "source": "/services/router", "tenant": "acme", "time": "2026-10-05T10:00:00Z", "model": "demo",
    "operation": "chat", "input_tokens": 1200, "output_tokens": 345, "cached": False, "user": "ann",
    "duration_ms": 743.2, "status": 200, "lines": LINES, "unpriced": [], "usd": "0.00516",
    "invoice": {"period": "2026-10", "number": 7, "issued": "2026-11-01T00:00:00Z", "lines": [
        {"kind": "input", "model": "demo", "quantity": 52000, "events": 40, "unit_usd": "2", "per": 1000000,
         "usd": "0.104"}]},
}  # fmt: skip


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _entry(
    number: int, kind: str, data: dict[str, Any], other: bytes, name: str = "e1"
) -> tuple[dict[str, Any], bytes]:
    """(entry of a log with two entries, its leaf). `other`: hash of the other entry."""
    content, salt = _json({"subject": "request/r-1", "data": data}), bytes(32)
    leaf = {
        "v": 2, "source": f"/services/{kind.split('.')[0]}", "id": name, "type": f"dev.cogniforge.{kind}",
        "time": "2026-10-05T10:00:00Z", "tenant": "acme", "trace": f"00-{TRACE}-b7ad6b7169203331-01", "place": number,
        "content": audit_log.load("commitment").commitment(salt, content.encode()),
    }  # fmt: skip
    leaf["source"] = "/services/router" if kind.startswith("usage") else "/services/guardrails"
    event = {**leaf, "salt": salt.hex(), **json.loads(content)}
    return {"number": number, "entry": _json(leaf), "content": content, "proof": [other.hex()], "event": event}, _json(
        leaf
    ).encode()


def _log(data: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """(Audit's answer about a request that was redacted, the log's public key)."""
    merkle, note = audit_log.load("merkle"), audit_log.load("note")
    decided = {"tenant": "acme", "direction": "input", "action": "redact", "kinds": {"email": 2}}
    _, first = _entry(0, "guard.decided.v1", decided, b"", "g1")
    usage, second = _entry(1, "usage.recorded.v1", data, merkle.leaf(first))
    guard, _ = _entry(0, "guard.decided.v1", decided, merkle.leaf(second), "g1")
    root = merkle.node(merkle.leaf(first), merkle.leaf(second))
    text = note.sign(note.Checkpoint("cogniforge/audit", 2, root), SIGNER)
    answer = {"entries": [usage, guard], "more": False, "checkpoint": text}
    return answer, note.verifier("cogniforge/audit", SIGNER.public_key())


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway whose Audit and Billing know the request "r-1"."""
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))
    with running(tmp_path) as found:
        outputs = {"url": found.url, "apiKey": KEY, "authority": found.authority}
        monkeypatch.setattr(stack, "outputs", lambda _: outputs)
        monkeypatch.setattr(stack, "read_config", lambda _: parse(without_servers("local")))
        answer, key = _log(DATA)
        found.say("GET /v1/audit/requests/r-1", answer)
        found.answers["GET /v1/audit/key"] = (200, key)
        found.say("GET /v1/billing/requests/r-1", {"requests": [COST], "more": False})
        # The double answers with JSON; the key is plain text.
        monkeypatch.setattr(explain, "_log_key", lambda client: gateway.ask(client, "GET", "audit/key"))
        yield found


@pytest.mark.parametrize("form", ["txt", "json"])
def test_the_whole_life_of_a_request_is_shown(run: Run, books: Gateway, form: str) -> None:
    golden(f"explain.{form}", run("explain", "r-1", *(["-o", "json"] if form == "json" else [])))


def test_an_entry_that_is_not_proven_is_told_and_fails(run: Run, books: Gateway) -> None:
    answer, _ = _log(DATA)
    answer["entries"][0]["content"] = answer["entries"][0]["content"].replace("0.0052", "0.0001")
    books.say("GET /v1/audit/requests/r-1", answer)
    golden("explain-not-proven.txt", run("explain", "r-1"), 1)


def test_a_request_that_the_policy_has_refused_is_explained(run: Run, books: Gateway) -> None:
    merkle, note = audit_log.load("merkle"), audit_log.load("note")
    refused = {
        "tenant": "acme", "key": "k1", "outcome": "denied", "rule": "model_not_allowed", "status": 403,
        "method": "POST", "target": "/v1/chat/completions", "model": "large", "revision": "r1", "times": 12,
    }  # fmt: skip
    other = bytes(32)
    entry, leaf = _entry(0, "policy.decided.v1", refused, other)
    root = merkle.node(merkle.leaf(leaf), other)
    text = note.sign(note.Checkpoint("cogniforge/audit", 2, root), SIGNER)
    books.say("GET /v1/audit/requests/r-1", {"entries": [entry], "more": False, "checkpoint": text})
    books.say("GET /v1/billing/requests/r-1", {"requests": [], "more": False})
    golden("explain-refused.txt", run("explain", "r-1"))


def test_a_request_that_nobody_knows_is_explained(run: Run, books: Gateway) -> None:
    unknown = {"error": {"message": "The request does not exist.", "type": "not_found_error", "param": "request",
                         "code": None}}  # fmt: skip
    for service in ("audit", "billing"):
        books.say(f"GET /v1/{service}/requests/r-2", unknown, 404)
    golden("explain-unknown.txt", run("explain", "r-2"), 1)


def test_a_service_that_refuses_is_a_gap(run: Run, books: Gateway) -> None:
    refused = {"error": {"message": "The key lacks the scope audit.", "type": "permission_error", "param": None,
                         "code": "missing_scope"}}  # fmt: skip
    books.say("GET /v1/audit/requests/r-1", refused, 403)
    golden("explain-gap.txt", run("explain", "r-1"))


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "", "../../key", "x" * 200])
def test_a_hostile_id_is_refused_before_it_is_sent(books: Gateway, name: str) -> None:
    with gateway.connect("local") as client, pytest.raises(LocalError, match="is not the ID of a request"):
        explain.collect(client, "local", name)
    assert books.asked == []


def test_a_key_file_that_cannot_be_read_is_told(run: Run, books: Gateway, tmp_path: Path) -> None:
    status, _, err = run("explain", "r-1", "--log-key", str(tmp_path / "none"))
    assert status == 1 and "cannot be read" in err


def test_a_trusted_key_replaces_the_one_that_audit_reports(run: Run, books: Gateway, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"other").digest())
    for name, signer, status in (("same", SIGNER, 0), ("other", other, 1)):
        file = tmp_path / name
        file.write_text(audit_log.load("note").verifier("cogniforge/audit", signer.public_key()))
        assert run("explain", "r-1", "--log-key", str(file))[0] == status


def test_control_characters_of_services_do_not_reach_the_terminal(run: Run, books: Gateway) -> None:
    answer, _ = _log({**DATA, "user": "\x1b[31mred\u202e", "prompt": "[bold]p"})
    books.say("GET /v1/audit/requests/r-1", answer)
    status, out, _ = run("explain", "r-1")
    assert status == 0 and "\x1b" not in out and "\u202e" not in out and "[bold]p" in out


def _span(name: str, parent: str, start: int, **more: Any) -> dict[str, Any]:
    references = [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": parent}] if parent else []
    found = {"traceID": TRACE, "spanID": name, "operationName": f"operation {name}", "references": references}
    return {**found, "startTime": start, "duration": 1500, "processID": "p1", "tags": [], **more}


def _jaeger(*spans: dict[str, Any]) -> str:
    processes = {"p1": {"serviceName": "router"}, "p2": {"serviceName": "guardrails"}}
    return json.dumps({"data": [{"traceID": TRACE, "spans": list(spans), "processes": processes}], "errors": None})


def test_spans_are_shown_where_there_is_a_jaeger(run: Run, books: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    spans = (
        _span("b", "a", 1_000_700, processID="p2", tags=[{"key": "error", "type": "bool", "value": True}]),
        _span("a", "outside", 1_000_000),
    )
    config = stack.read_config("local")
    traced = config.model_copy(update={"observability": config.observability.model_copy(update={"traces": Traces()})})
    monkeypatch.setattr(stack, "read_config", lambda _: traced)
    monkeypatch.setattr(jobs, "kubectl", lambda *words: asked.append(words[-1]) or _jaeger(*spans))
    golden("explain-spans.txt", run("explain", "r-1"))
    assert asked == [f"/api/v1/namespaces/cogniforge/services/jaeger:query/proxy/api/traces/{TRACE}"]


def test_the_spans_of_the_gateway_of_calls_and_of_consumers_have_the_names_of_their_parts(
    run: Run, books: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("gateway", "router", "billing", "audit")
    processes = {name: {"serviceName": name} for name in parts}
    spans = [
        _span("a", "", 1_000_000, processID="gateway", operationName="POST /v1/"),
        _span("b", "a", 1_000_100, processID="router", operationName="POST /v1/chat/completions"),
        _span("c", "b", 1_000_200, processID="router", operationName="chat demo"),
        # Consumers process the event after the request has ended.
        *(
            _span(name, "b", 1_400_000, processID=name, operationName="process usage.recorded.v1")
            for name in ("billing", "audit")
        ),
    ]
    answer = json.dumps({"data": [{"traceID": TRACE, "spans": spans, "processes": processes}], "errors": None})
    config = stack.read_config("local")
    traced = config.model_copy(update={"observability": config.observability.model_copy(update={"traces": Traces()})})
    monkeypatch.setattr(stack, "read_config", lambda _: traced)
    monkeypatch.setattr(jobs, "kubectl", lambda *_: answer)
    status, out, _ = run("explain", "r-1")
    assert status == 0
    for line in (
        "gateway POST /v1/: from 0.0 ms, for 1.5 ms",
        "  router POST /v1/chat/completions: from 0.1 ms, for 1.5 ms",
        "    router chat demo: from 0.2 ms, for 1.5 ms",
        "    billing process usage.recorded.v1: from 400.0 ms, for 1.5 ms",
        "    audit process usage.recorded.v1: from 400.0 ms, for 1.5 ms",
    ):
        assert f"             {line}\n" in out, line


@pytest.mark.parametrize(
    ("one_of", "said"), [(100, "not kept by sampling, which keeps one of 100"), (1, "has none: not arr")]
)
def test_a_trace_that_sampling_left_out_is_a_gap(
    run: Run, books: Gateway, monkeypatch: pytest.MonkeyPatch, one_of: int, said: str
) -> None:
    config = stack.read_config("local")
    section = config.observability.model_copy(update={"traces": Traces(keep_one_of=one_of)})
    monkeypatch.setattr(stack, "read_config", lambda _: config.model_copy(update={"observability": section}))
    monkeypatch.setattr(jobs, "kubectl", lambda *_: json.dumps({"data": []}))
    status, out, _ = run("explain", "r-1")
    assert status == 0 and said in " ".join(out.split())


def test_spans_in_a_circle_end() -> None:
    found = spans_of.read(json.loads(_jaeger(_span("a", "b", 1), _span("b", "a", 2), _span("c", "c", 3))))
    assert [(one.name, one.depth) for one in found] == [("operation a", 2), ("operation b", 2), ("operation c", 1)]


def test_a_jaeger_that_is_away_is_a_gap(run: Run, books: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> str:
        raise LocalError("spans could not be read", reason="no endpoints available")

    config = stack.read_config("local")
    traced = config.model_copy(update={"observability": config.observability.model_copy(update={"traces": Traces()})})
    monkeypatch.setattr(stack, "read_config", lambda _: traced)
    monkeypatch.setattr(jobs, "kubectl", away)
    status, out, _ = run("explain", "r-1")
    assert status == 0 and "spans: spans could not be read: no endpoints available" in out
