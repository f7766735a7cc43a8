"""Every service's OpenAPI document is correct: answers to any request match it, and none has a 5xx status."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

pytestmark = pytest.mark.contract
SOURCES = Path(__file__).resolve().parents[1]
SERVICES = ("audit", "billing", "embeddings", "guardrails", "prompt", "retriever", "user")
for service in ("kit", *SERVICES):
    sys.path.insert(0, str(SOURCES / service / "src"))

from kit import migrate  # noqa: E402
from starlette import testclient  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from service_images.issuer import Cluster  # noqa: E402

# JSON Schema cannot describe forms with files well, so uploads have their own tests.
UPLOAD = {"path": "/v1/files", "method": "POST"}
CHECKS = (not_a_server_error, status_code_conformance, response_schema_conformance)
SCHEMAS = {name: schemathesis.openapi.from_dict(importlib.import_module(f"{name}.api").document()) for name in SERVICES}
SCHEMAS["retriever"] = SCHEMAS["retriever"].exclude(**UPLOAD)
KEY = "cf-the-operators-key-of-this-test"


class Flat:
    """A constant vector for any text, since search results do not matter here."""

    async def embed(self, texts: Any) -> list[Any]:
        """The same vectors for all texts."""
        return [[1.0] + [0.0] * 383 for _ in texts]

    async def rerank(self, _: str, texts: Any) -> list[float]:
        """The same score for all texts."""
        return [0.0 for _ in texts]


def _application(name: str, more: dict[str, Any], tmp_path: Path) -> Any:
    main = importlib.import_module(f"{name}.__main__")
    made = getattr(main, f"{name.capitalize()}Settings")
    if name == "audit":
        more |= {"signing_secret": "of this test", "sealing_secret": "of this test"}
    if name == "user":
        more["installation_key"] = KEY
    if name in ("embeddings", "guardrails"):
        more |= {"rpc_port": 0, "host": "127.0.0.1"}
    if name == "embeddings":
        more["threads"] = 1
    if name == "retriever":
        more["objects_endpoint"] = f"file://{tmp_path}/objects"
        return main.create(made(**more), Flat())
    return main.create(made(**more))


@pytest.fixture(scope="module")
def clients(
    postgres_server: Any, model_folder: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster
) -> Iterator[Callable[[str], httpx.Client]]:
    """Each service with its own database, once per module."""
    running: dict[str, Any] = {}

    def get(name: str) -> httpx.Client:
        if name not in running:
            more: dict[str, Any] = {"model_folder": model_folder} if name == "embeddings" else {}
            if (SOURCES / name / "src" / name / "migrations").exists():
                more = postgres_server.make_database(name)
                if name == "retriever":
                    postgres_server.make_collection()
                url = f"postgresql://{name}@127.0.0.1:{postgres_server.port}/{name}"
                migrate.migrate(name, url)
            app = _application(name, more, tmp_path_factory.mktemp(name))
            client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
            client.headers["authorization"] = f"Bearer {cluster.token('router', name) if name == 'embeddings' else KEY}"
            running[name] = client.__enter__()
            if name == "embeddings":
                deadline = time.monotonic() + 10
                while client.get("/readyz").status_code != 200:  # until it has fetched the cluster's keys
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
        return running[name]

    yield get
    for client in running.values():
        client.__exit__(None, None, None)


def _check(name: str, case: schemathesis.Case, client: httpx.Client) -> None:
    arguments = case.as_transport_kwargs(base_url="http://testserver")
    arguments.pop("cookies", None)
    given = (arguments.pop("headers", None) or {}).items()
    headers = {name: value for name, value in given if name.lower() != "authorization"}
    try:
        headers["authorization"] = client.headers["authorization"]
        answer = client.request(**{**arguments, "headers": headers})
    except testclient.httpx.InvalidURL:
        return  # HTTP clients cannot send this
    _ = answer.request.content if hasattr(answer.request, "_content") else answer.request.read()
    response = schemathesis.Response.from_any(answer)  # type: ignore[attr-defined]
    case.validate_response(response, checks=CHECKS)


def _make(name: str) -> Any:
    @SCHEMAS[name].parametrize()
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    def test(case: schemathesis.Case, clients: Callable[[str], httpx.Client]) -> None:
        _check(name, case, clients(name))

    return test


test_audit = _make("audit")
test_billing = _make("billing")
test_embeddings = _make("embeddings")
test_guardrails = _make("guardrails")
test_prompt = _make("prompt")
test_retriever = _make("retriever")
test_user = _make("user")
