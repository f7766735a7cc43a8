"""Validation of REST operations, its order, and their OpenAPI description."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

import hanging_up
from kit import rest_app, service
from kit.directory import Grant, unknown
from kit.limits import BODY
from kit.rest import Call, Model, Nothing, Operation

KEYS = {"writer": Grant("acme", scopes=("write",)), "reader": Grant("acme", scopes=("read",))}


class Thing(Model):
    """A created object."""

    name: str
    size: int = 0


class Page(Model):
    """Which ones."""

    limit: int = 20


async def _make(call: Call[Nothing, Thing]) -> dict[str, Any]:
    return {"path": call.path, "name": call.body.name, "tenant": call.caller.tenant}


async def _find(call: Call[Page, None]) -> dict[str, Any]:
    return {"limit": call.query.limit}


async def _drop(_: Call[Nothing, None]) -> None:
    return None


async def _raw(_: Call[Nothing, None]) -> Response:
    return Response(b"raw", media_type="application/octet-stream")


async def _authenticate(key: str) -> Grant:
    if key not in KEYS:
        raise unknown()
    return KEYS[key]


_NAME = (("thing", "[a-z]{1,8}", "A thing's name"),)
_COLOUR = (("colour", "red|green|blue", "A colour"),)
OPERATIONS = (
    Operation("GET", "/v1/things", "Find things.", _find, query=Page, scope="read"),
    Operation("PUT", "/v1/things/{thing}", "Make a thing.", _make, body=Thing, scope="write", parameters=_NAME),
    Operation("DELETE", "/v1/things/{thing}", "Drop a thing.", _drop, status=204, scope="write", parameters=_NAME),
    Operation("DELETE", "/v1/colours/{colour}", "Drop a colour.", _drop, status=204, scope="write", parameters=_COLOUR),
    Operation("GET", "/v1/raw", "Bytes.", _raw, media="application/octet-stream"),
    Operation("POST", "/v1/things", "Make one.", _make, body=Thing, scope="write", makes=True),
)
APPLICATION = service.create("Things", OPERATIONS, authenticate=_authenticate)
CLIENT = TestClient(APPLICATION, raise_server_exceptions=False)


def ask(method: str, path: str, key: str = "writer", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return CLIENT.request(method, path, headers=headers, **more)


def error(answer: httpx.Response) -> dict[str, Any]:
    assert set(answer.json()) == {"error"}
    return answer.json()["error"]


def test_the_caller_is_authenticated_before_the_body_is_read() -> None:
    """Otherwise unauthenticated clients could make a service read and parse bodies."""
    for key, status in (("nobody", 401), ("reader", 403)):
        answer = ask("PUT", "/v1/things/NOT-A-NAME?unknown=1", key, content=b"{broken")
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_is_parsed_as_json_for_any_content_type(kind: str) -> None:
    answer = ask("PUT", "/v1/things/a", content=b'{"name": "b"}', headers={"content-type": kind} if kind else {})
    assert answer.json() == {"path": {"thing": "a"}, "name": "b", "tenant": "acme"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"name": "a", "name": "b"}', b'{"name": "\\u0000"}', b'{"name": "a", "size": NaN}']
)
def test_json_that_later_stores_refuse_is_refused(content: bytes) -> None:
    answer = ask("PUT", "/v1/things/a", content=content)
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_json")


def test_all_mistakes_of_a_request_are_named_at_once() -> None:
    answer = ask("PUT", "/v1/things/NO", json={"size": "many", "more": 1})
    found = error(answer)
    assert answer.status_code == 400
    for text in ("path thing", "body name", "body size", "received 'many'", "body more"):
        assert text in found["message"]
    assert found["param"] == "thing"


@pytest.mark.parametrize(("body", "text"), [([], "body: Input should be an object"), ({"name": []}, "valid string")])
def test_a_mistake_is_named_in_the_terms_of_json(body: Any, text: str) -> None:
    assert text in error(ask("PUT", "/v1/things/a", json=body))["message"]


@pytest.mark.parametrize(
    ("query", "param"), [("limit=x", "limit"), ("limit=1&limit=2", "limit"), ("more=1", "more"), ("limit=%00", "limit")]
)
def test_a_query_that_does_not_fit_is_refused(query: str, param: str) -> None:
    answer = ask("GET", f"/v1/things?{query}", "reader")
    assert (answer.status_code, error(answer)["param"]) == (400, param)


def test_an_operation_without_a_query_takes_none() -> None:
    assert ask("DELETE", "/v1/things/a?dry=1").status_code == 400
    assert ask("DELETE", "/v1/things/a").status_code == 204


def test_a_body_above_the_limit_is_refused_announced_or_not() -> None:
    large = b'"' + b"x" * BODY.most + b'"'
    assert error(ask("PUT", "/v1/things/a", content=large))["code"] == "body_too_large"
    pieces = iter([large[: BODY.most], large[BODY.most :]])
    assert ask("PUT", "/v1/things/a", content=pieces).status_code == 413


def test_a_method_that_a_path_lacks_is_answered_with_those_that_it_has() -> None:
    answer = ask("PATCH", "/v1/things")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert error(answer)["type"] == "invalid_request_error"


def test_get_operations_support_head() -> None:
    assert ask("HEAD", "/v1/things", "reader").status_code == 200
    assert ask("HEAD", "/v1/things").status_code == 403


def test_a_client_that_disconnects_within_its_body_is_no_server_error() -> None:
    key = (b"authorization", b"Bearer writer")
    assert hanging_up.status(APPLICATION, "PUT", "/v1/things/a", key) == 499


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_body_causes_an_internal_error(content: bytes | str) -> None:
    answer = ask("PUT", "/v1/things/a", content=content)
    assert answer.status_code == 400
    assert error(answer)["type"] == "invalid_request_error"


def test_the_document_contains_scopes_and_errors_of_operations() -> None:
    paths = rest_app.document("Things", OPERATIONS)["paths"]
    put = paths["/v1/things/{thing}"]["put"]
    assert put["security"] == [{"key": ["write"]}]
    assert set(put["responses"]) == {"200", "400", "401", "403", "413", "503"}
    assert "422" in paths["/v1/things"]["post"]["responses"], "the Idempotency-Key was used for another request"
    assert "security" not in paths["/v1/raw"]["get"]


def test_the_document_is_served_as_it_is_published() -> None:
    served = CLIENT.get("/openapi.json").json()
    assert served == rest_app.document("Things", OPERATIONS)
    assert set(served["paths"]) == {"/v1/things", "/v1/things/{thing}", "/v1/colours/{colour}", "/v1/raw"}


@pytest.mark.parametrize(("colour", "status"), [("green", 204), ("redder", 400), ("agreen", 400), ("dark-blue", 400)])
def test_a_path_parameter_is_one_of_the_alternatives_as_a_whole(colour: str, status: int) -> None:
    answer = CLIENT.delete(f"/v1/colours/{colour}", headers={"authorization": "Bearer writer"})
    assert answer.status_code == status
