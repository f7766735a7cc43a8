"""Every operation of every service is fuzzed through the gateway by one tenant; another tenant is not affected.

FUZZ_MINUTES is how long it takes.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import errors
from hypothesis import strategies as st
from kubernetes import client
from schemathesis import GenerationMode
from schemathesis.core.errors import InvalidSchema

from cli import stack
from local import paths
from tests.e2e.bystander import FUZZING, Bystander, bystander, restarts
from tests.e2e.conftest import connected
from tests.e2e.test_services import Tenant

MINUTES = float(os.environ.get("FUZZ_MINUTES", "4"))
pytestmark = [pytest.mark.drill("fuzz"), pytest.mark.timeout(MINUTES * 60 + 600)]
SERVICES = ("audit", "billing", "embeddings", "guardrails", "prompt", "retriever", "router", "user")
EXAMPLES = 15
"""Seconds per operation."""
ODD = ("\x00", "a\x00b", "\ud83d", "x" * 70_000, "[" * 3000, "9" * 400, "‮\ufffe", "%00", "../..", "a/b", "'; --")


@pytest.fixture(scope="module", name="bystander")
def _bystander(operator: httpx.Client) -> Iterator[Bystander]:
    yield from bystander(operator)


class Attacker:
    """Sends generated requests with the key of a tenant, which is recreated if it has locked itself out."""

    def __init__(self, operator: httpx.Client, foreign: dict[str, str]) -> None:
        self._operator, self._foreign = operator, foreign
        self.tenant = self._made()
        self.statuses: Counter[str] = Counter()
        self.errors: list[str] = []

    def _made(self) -> Tenant:
        made = Tenant(self._operator, connected(stack.outputs("local")))
        made.until_known()
        return made

    def close(self) -> None:
        """Delete the tenant."""
        self._operator.delete(f"/v1/tenants/{self.tenant.name}")
        self.tenant.http.close()

    def send(self, case: schemathesis.Case, draw: Any) -> None:
        """Send one request, and record errors of the platform and effects on the other tenant."""
        names = [name for name in case.path_parameters or {} if name in self._foreign]
        foreign = bool(names) and draw(st.booleans())
        own = self.tenant.name if case.method.lower() != "delete" else "nobody"
        for name in names:
            if foreign:
                case.path_parameters[name] = self._foreign[name]
            elif name == "tenant":
                case.path_parameters[name] = own
        arguments = case.as_transport_kwargs(base_url=str(self._operator.base_url))
        arguments.pop("cookies", None)
        headers = {"authorization": f"Bearer {self.tenant.key}"}
        if isinstance(arguments.get("json"), dict | list) and draw(st.integers(0, 3)) == 0:
            body = _spoiled(arguments.pop("json"), draw)
            arguments["content"] = json.dumps(body)
            headers["content-type"] = "application/json"
        given = {k: v for k, v in (arguments.pop("headers", None) or {}).items() if k.lower() not in ("authorization",)}
        try:
            answer = self.tenant.http.request(**arguments, headers=given | headers)
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError, TypeError, AttributeError):
            return  # HTTP clients cannot send this
        except httpx.RemoteProtocolError as error:
            self.errors.append(f"{case.method} {case.path}: {error}")
            return
        self.statuses[f"{answer.status_code // 100}xx"] += 1
        if answer.status_code >= 500 or (foreign and answer.status_code < 300):
            sent = str(answer.request.content[:300])
            self.errors.append(
                f"{answer.request.method} {answer.request.url} {sent}: {answer.status_code} {answer.text[:300]}"
            )
        if answer.status_code == 429:
            time.sleep(0.1)
        if answer.status_code == 401 and self.tenant.http.get("/v1/models").status_code == 401:
            self.close()
            self.tenant = self._made()


def _spoiled(body: Any, draw: Any) -> Any:
    """The body with one odd value."""
    if isinstance(body, dict) and body:
        name = draw(st.sampled_from(sorted(body)))
        return {**body, name: _spoiled(body[name], draw)}
    if isinstance(body, list) and body:
        return [_spoiled(body[0], draw), *body[1:]]
    return draw(st.sampled_from(ODD) | st.sampled_from((None, -1, 10**30, 1e308, [], {}, [[]], True)))


def _operations() -> list[Any]:
    documents = [
        json.loads((paths.PROJECT / "service_images" / name / "openapi.json").read_text()) for name in SERVICES
    ]
    return [
        made.ok() for document in documents for made in schemathesis.openapi.from_dict(document).get_all_operations()
    ]


def _turn(operation: Any, attacker: Attacker, seed: int) -> None:
    mode = GenerationMode.NEGATIVE if seed % 2 else GenerationMode.POSITIVE

    @hypothesis.seed(seed)
    @hypothesis.settings(FUZZING, max_examples=EXAMPLES)
    @hypothesis.given(data=st.data())
    def sent(data: st.DataObject) -> None:
        attacker.send(data.draw(operation.as_strategy(generation_mode=mode)), data.draw)

    try:
        sent()
    except (errors.Unsatisfiable, InvalidSchema):
        return  # operations without input have no invalid requests, and some invalid arrays cannot be generated


def test_no_request_of_a_tenant_breaks_a_service_or_affects_another_tenant(
    operator: httpx.Client, bystander: Bystander, api: client.ApiClient
) -> None:
    before, started = bystander.has(), restarts(api)
    attacker = Attacker(operator, bystander.ids)
    operations, turn, end = _operations(), 0, time.monotonic() + MINUTES * 60
    try:
        while time.monotonic() < end:
            for operation in operations:
                if time.monotonic() > end:
                    break
                _turn(operation, attacker, turn)
            turn += 1
            assert bystander.has() == before, attacker.errors[-3:]
    finally:
        attacker.close()
    print(f"{sum(attacker.statuses.values())} requests: {dict(attacker.statuses)}")
    assert attacker.errors == []
    assert attacker.statuses["2xx"] > 20 * MINUTES, "most of it was refused, so that it tried nothing"
    bystander.works(operator)
    assert restarts(api) == started
