"""Operators read the APIs of all services as one OpenAPI document and as a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from router.__main__ import create
from router.core import Core
from router.documents import Documents
from router.front import Front
from router.routes import RouteTable

from .conftest import serve

SOURCES = Path(__file__).resolve().parents[2]
SERVICES = ("audit", "billing", "guardrails", "prompt", "retriever", "router", "user")
OPERATOR, CUSTOMER = "cf-operator", "cf-customer"
TENANTS = {"operator": OPERATOR, "acme": CUSTOMER}
TABLE = {
    "routes": [{"model": "m", "upstream": "http://127.0.0.1:1"}],
    "tenants": [
        {"id": name, "keys": [hashlib.sha256(key.encode()).hexdigest()], "operator": key == OPERATOR}
        for name, key in TENANTS.items()
    ],
}
BOTH = ("/v1/admin/openapi.json", "/v1/admin/docs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents, as in the image."""
    made = tmp_path_factory.mktemp("openapi")
    for name in SERVICES:
        (made / f"{name}.json").write_text((SOURCES / name / "openapi.json").read_text())
    return made


@pytest.fixture(scope="module")
def router(folder: Path) -> Iterator[httpx.Client]:
    core = Core(RouteTable.model_validate(TABLE))
    application = create(core, documents=Documents(folder, (*SERVICES, "own")))
    server, thread, url = serve(application, Front.of(core))
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        yield client
    server.should_exit = True
    thread.join()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def typed_in(key: str, site: str = "") -> dict[str, str]:
    """Header of a browser with the key that its user has entered."""
    shown = base64.b64encode(f"me:{key}".encode()).decode()
    return {"authorization": f"Basic {shown}", **({"sec-fetch-site": site} if site else {})}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_document_has_every_operation_of_every_service(router: httpx.Client) -> None:
    headers = {**bearer(OPERATOR), "host": "api.example.com:8443"}
    found = router.get(BOTH[0], headers=headers).raise_for_status().json()
    assert found["servers"] == [{"url": "https://api.example.com:8443"}]
    for name in SERVICES:
        own = json.loads((SOURCES / name / "openapi.json").read_text())
        for path, methods in own["paths"].items():
            assert set(methods) <= set(found["paths"][path]), path
    assert "/openapi/own.json" in found["info"]["description"], "a service whose document the image does not hold"
    schemas = found["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references(found)} <= set(schemas)
    operations = [one for methods in found["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names))
    assert {tag["name"] for tag in found["tags"]} == {tag for one in operations for tag in one["tags"]}


def test_behind_a_mesh_the_document_names_the_host_that_the_gateway_has_added(router: httpx.Client) -> None:
    forwarded = {"host": "router.cogniforge:8080", "x-forwarded-host": "made-up.example, api.example.com"}
    found = router.get(BOTH[0], headers={**bearer(OPERATOR), **forwarded}).raise_for_status().json()
    assert found["servers"] == [{"url": "https://api.example.com"}]


def test_the_page_shows_every_operation_and_runs_no_script(router: httpx.Client) -> None:
    answer = router.get(BOTH[1], headers=bearer(OPERATOR)).raise_for_status()
    page = answer.text
    assert answer.headers["content-type"].startswith("text/html")
    for path in ("/v1/chat/completions", "/v1/tenants/{tenant}/keys", "/v1/vector_stores/{store}/search"):
        assert path in page
    assert not re.search(r"<script|javascript:|\son\w+=|https?://", page), "nothing is run, nothing is loaded"
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page))
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy


@pytest.mark.parametrize("path", BOTH)
def test_only_operators_read_them(router: httpx.Client, path: str) -> None:
    assert router.get(path).status_code == 401
    assert router.get(path, headers=bearer("cf-nobody")).status_code == 401
    assert router.get(path, headers=bearer(CUSTOMER)).status_code == 403
    assert router.get(path, headers=bearer(OPERATOR)).status_code == 200


def test_a_browser_prompts_for_the_key_and_sends_it_to_no_other_site(router: httpx.Client) -> None:
    """A browser adds the entered key to requests of other sites' pages, which must not act for the operator."""
    assert router.get(BOTH[1]).headers["www-authenticate"].startswith("Basic ")
    assert "www-authenticate" not in router.get(BOTH[0]).headers
    for site, status in (("", 200), ("none", 200), ("same-origin", 200), ("same-site", 401), ("cross-site", 401)):
        assert router.get(BOTH[1], headers=typed_in(OPERATOR, site)).status_code == status, site
        assert router.get("/v1/admin/routes", headers=typed_in(OPERATOR, site)).status_code == status, site
    cross = {**bearer(OPERATOR), "sec-fetch-site": "cross-site"}
    assert router.get("/v1/admin/routes", headers=cross).status_code == 200, "a page that has the key may use it"


def test_document_contents_are_escaped_on_the_page(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    operation = {"summary": bad, "responses": {"200": {"description": bad}}}
    schemas = {"X": {"type": "object", "description": bad, "properties": {bad: {"type": "string"}}}}
    document = {"info": {"title": bad}, "paths": {f"/{bad}": {"get": operation}}, "components": {"schemas": schemas}}
    (tmp_path / "user.json").write_text(json.dumps(document))
    page, _ = Documents(tmp_path, ("user",)).page
    assert b"<script" not in page
    assert page.count(b"&lt;script&gt;") >= 5


def test_a_service_whose_document_is_missing_is_named(tmp_path: Path) -> None:
    found = json.loads(Documents(tmp_path, ("own",)).document("https://localhost"))
    assert (found["paths"], found["info"]["description"]) == ({}, "Further documents: /openapi/own.json.")
