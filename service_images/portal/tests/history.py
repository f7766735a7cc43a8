"""A history for measurements of the pages: a million requests, and the other things that an installation has."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from service_images.portal.tests.conftest import record, usage
from service_images.portal.tests.running_platform import OPERATOR, Platform

HISTORY = 1_000_000
"""Requests of the last year, of 50 tenants."""
PRICES = (("demo", "input", "3"), ("demo", "output", "15"), ("*", "input", "0.4"), ("*", "output", "2"))
MADE_UP = """
INSERT INTO usage (source, id, tenant, period, time, model, operation, input_tokens, output_tokens, cached, "user",
                   duration_ms, trace, request, status)
SELECT 'history', n::text, CASE WHEN n %% 50 = 0 THEN 'default' ELSE 'team-' || n %% 50 END,
       date_trunc('month', at)::date, at, (ARRAY['demo', 'demo-small'])[1 + n %% 2], 'chat', 200 + n %% 900,
       20 + n %% 300, false, (ARRAY['ann', 'bob', 'search', 'reports'])[1 + (n / 10) %% 4], 300, '',
       'r-' || n, CASE WHEN n %% 97 = 0 THEN 503 ELSE 200 END
FROM (SELECT n, now() - interval '1 year' * power(random(), 1.3) AS at FROM generate_series(1, %s) AS n) AS x
"""


LIFE = "whole-life.1"
"""ID of a request of which Audit and Billing know all."""

WHOLE: dict[str, Any] = {
    "status": 200, "key": "k-0", "scopes": ["inference"], "target": "candidate", "duration_ms": 431.2,
    "first_token_ms": 120.5, "guard": {"input": "redact", "output": "allow"},
    "choice": {"strategy": "canary", "targets": [
        {"target": "demo", "score": 0.9, "in_flight": 3}, {"target": "candidate", "score": 0.1, "in_flight": 0}]},
    "attempts": [
        {"target": "demo", "begun_ms": 0.4, "duration_ms": 300.1, "outcome": "interrupted", "reason": "closed"},
        {"target": "candidate", "begun_ms": 300.9, "duration_ms": 130, "outcome": "answered", "continues": True}],
}  # fmt: skip


class Flat:
    """Vectors of texts, since what is found does not matter here: the first words of a text decide."""

    async def embed(self, texts: Any) -> list[Any]:
        """A vector for each text."""
        return [[1.0] + [0.0] * 383 for _ in texts]

    async def rerank(self, _: str, texts: Any) -> list[float]:
        """A score for each text."""
        return [0.5 for _ in texts]


def make(platform: Platform, requests: int = HISTORY) -> None:
    """A year of usage of 50 tenants, of which the operator's own is one."""
    with psycopg.connect(platform.database("billing"), autocommit=True) as connection:
        connection.execute(MADE_UP, (requests,))
        connection.execute("ANALYZE usage")
    with platform.client(OPERATOR) as client:
        for model, kind, usd in PRICES:
            price = {"model": model, "kind": kind, "usd": usd, "begins": "2020-01-01T00:00:00Z"}
            client.post("/v1/billing/prices", json=price).raise_for_status()
        client.put("/v1/billing/tenants/default/budget", json={"usd": "250"}).raise_for_status()
        for name, scopes in (("reports", ["inference"]), ("search service", ["inference", "retrieval"])):
            client.post("/v1/tenants/default/keys", json={"name": name, "scopes": scopes}).raise_for_status()
        for text in ("Greet {{ name }}.", "Greet {{ name }} in one short sentence."):
            version = {"name": "greeting", "prompt": text, "labels": ["tested"]}
            client.post("/v1/prompts", json=version).raise_for_status()
        for number in range(60):
            client.post("/v1/prompts", json={"name": f"prompt-{number:02}", "prompt": "x"}).raise_for_status()
        upload = {"file": ("handbook.txt", b"Holidays are in August. " * 40), "purpose": (None, "assistants")}
        file = client.post("/v1/files", files=upload).raise_for_status().json()["id"]
        store = client.post("/v1/vector_stores", json={"name": "Handbook", "file_ids": [file]})
        place = f"/v1/vector_stores/{store.raise_for_status().json()['id']}"
        _until(lambda: client.get(place).json()["file_counts"]["completed"] == 1)
        targets = [{"name": "demo", "upstream": "http://127.0.0.1:1", "weight": 4}]
        targets += [{"name": "candidate", "upstream": "http://127.0.0.1:2", "weight": 1}]
        canary = {"target": "candidate", "steps": [0.1, 0.5]}
        route = {"model": "assistant", "targets": targets, "strategy": "canary", "canary": canary}
        changed = client.put("/v1/admin/routes/assistant", json={"route": route, "reason": "try the new model"})
        changed.raise_for_status()
        record(client, usage("default", request=LIFE, **WHOLE))


def _until(holds: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.2)
