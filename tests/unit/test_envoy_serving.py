"""A real Envoy with the platform's configuration, in front of a service that reports received requests."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

import anthropic
import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import parse as config_parse
from components.mesh import entrance
from components.mesh.routes import OPERATORS_DOCUMENTS, Backend, Cors, GatewayIntent, Rates
from service_images.ports import free_port
from service_images.serving import answering
from tests.envoy_server import Running, gateway
from tests.unit.test_platform import without_servers
from tests.waiting import until

ORIGIN = "https://app.example.com"
NAMES = ["/v1/prompts", "/api/public/v2/prompts", "/v1/models", "/v1/admin/routes"]


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "inside/1.0"

    def _answer(self) -> None:
        size = int(self.headers.get("content-length", 0))
        body = self.rfile.read(size)
        answer = {"path": self.path, "headers": dict(self.headers.items()), "size": len(body)}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-router-target", "model-demo.cogniforge:8000")
        self.send_header("x-request-id", "made-by-the-service")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_OPTIONS = do_PUT = do_TRACE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    with answering(_Echo) as port:
        yield port


def intent(port: int) -> GatewayIntent:
    """The local environment's intent, but without OPA, with all backends at one port, and CORS for one origin."""
    config = config_parse.parse(without_servers("local"))
    found = entrance.intent(config)

    def moved(backend: Backend) -> Backend:
        return Backend(backend.name, "127.0.0.1", port)

    return dataclasses.replace(
        found,
        routes=tuple(dataclasses.replace(route, backend=moved(route.backend)) for route in found.routes),
        documents=tuple(dataclasses.replace(d, backend=moved(d.backend)) for d in found.documents),
        cors=Cors((ORIGIN,), 600),
        rates=Rates((10_000, 10_000), (10_000, 10_000)),
    )


@pytest.fixture(scope="module")
def running(backend: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(intent(backend), tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture(scope="module")
def http(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        yield client


def seen(running: Running, path: str) -> tuple[int, str]:
    """(status, path that the service received). Raw, since clients' libraries normalize paths."""
    answer = running.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body).get("path", "")


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
@pytest.mark.parametrize("prefix", NAMES)
def test_a_name_with_an_encoded_slash_reaches_its_service_unchanged(running: Running, prefix: str, slash: str) -> None:
    path = f"{prefix}/support{slash}greeting"
    assert seen(running, path) == (200, path)
    assert seen(running, f"{path}?label=production") == (200, f"{path}?label=production")


@pytest.mark.parametrize(
    "path",
    [
        *("/v1%2Fmodels", "/v1/files%2F..%2Fadmin", "/v1/files/a%2Fb", "/v1/tenants/a%2fb", "/v1/chat%2Fcompletions"),
        *("/v1/prompts%2Fgreeting", "/v1/modelsx/a%2Fb", "/v1/admin%2Froutes", "/v1/billing/a%2Fb", "/%2F", "/a%2Fb"),
        *(
            f"{prefix}/{bad}"
            for prefix in NAMES
            for bad in ("a%2F..%2Fb", "..%2Fa", "a%2F%2Fb", "%2Fa", "a%2F", "a%2F.")
        ),
        *(
            f"{prefix}/{bad}"
            for prefix in NAMES
            for bad in ("a%5Cb", "a%5c..%5cb", "a%2F%2e%2E%2Fb", "a%2f%2e", "a%2F/b")
        ),
        *("/v1/files/a%5Cb", "/v1/models/.%2f..%2fadmin"),
    ],
)
def test_an_encoded_slash_elsewhere_or_beside_dots_is_refused_by_the_gateway(running: Running, path: str) -> None:
    answer = running.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_path"


_PIECES = st.sampled_from(
    (
        *(
            "/",
            "//",
            "%2F",
            "%2f",
            "%5C",
            ".",
            "..",
            "%2e",
            "%2E%2e",
            ";",
            "a",
            "B",
            "prompts",
            "v1",
            "models",
            "files",
        ),
        *("files", "admin", "routes", "%252F", "%61dmin", "api", "public", "v2", "%00", "?", "\\"),
    )
)


@settings(max_examples=300)
@given(start=st.sampled_from([*NAMES, "/v1", "/v1/files", ""]), rest=st.lists(_PIECES, max_size=8))
def test_no_path_is_another_one_to_the_service_than_to_the_gateway(
    running: Running, start: str, rest: list[str]
) -> None:
    status, path = seen(running, f"{start}/{''.join(rest)}")
    if not path:
        assert status in (200, 400, 404)
        return
    read = unquote(path.partition("?")[0])
    segments = read.split("/")[1:]
    assert "\\" not in read
    assert ".." not in segments
    assert "." not in segments
    assert "" not in segments[:-1]
    if "%2f" in path.partition("?")[0].lower():
        assert any(read.startswith(f"{prefix}/") for prefix in NAMES)
        assert any(path.startswith(f"{prefix}/") for prefix in NAMES)


SMUGGLED = {
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks by another name": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 4\r\n\r\nabcd",
    "a signed length": b"Content-Length: +4\r\n\r\nabcd",
    "a folded line": b"X-A: b\r\n c\r\nContent-Length: x\r\n\r\n",
    "a zero byte": b"X-A: b\x00c\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLED.values(), ids=list(SMUGGLED))
def test_ambiguous_framing_is_refused(running: Running, rest: bytes) -> None:
    answer = running.raw(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + rest)
    assert re.match(rb"HTTP/1\.1 (400|501) ", answer), answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_only_the_gateway_can_name_the_client(http: httpx.Client) -> None:
    headers = {"x-client-id": "operator", "host": "localhost"}
    assert "x-client-id" not in http.get("/v1/models", headers=headers).json()["headers"]


def test_a_caller_cannot_give_the_platform_another_address(http: httpx.Client) -> None:
    def seen(**claimed: str) -> dict[str, str]:
        return http.get("/v1/models", headers={"host": "localhost", **claimed}).json()["headers"]

    claimed = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example", "x-forwarded-prefix": "/evil"}
    found = seen(**claimed, **{"x-forwarded-port": "99", "x-forwarded-proto": "evil"})
    assert "evil" not in str(found) and found["x-forwarded-port"] == "8443"
    assert found["x-forwarded-proto"] == seen()["x-forwarded-proto"]


@pytest.mark.parametrize(
    "path", ["/v1/models?api_key=SECRET-1", "/v1/callback?code=SECRET-2&state=x", "/nothing?t=SECRET-3"]
)
def test_queries_are_not_in_the_log(running: Running, http: httpx.Client, path: str) -> None:
    request_id = f"logged-{path[-1]}-{len(path)}"
    http.get(path, headers={"host": "localhost", "x-request-id": request_id})
    # Envoy flushes its log every second, and at its end.
    until(lambda: request_id in running.log.read_text(), 20)
    assert "SECRET" not in running.log.read_text()
    assert path.partition("?")[0] in running.log.read_text()


@pytest.mark.parametrize("path", ["/v1/models", "/v1/messages", "/v1/files", "/nothing", "/"])
def test_no_answer_names_internal_servers(http: httpx.Client, path: str) -> None:
    headers = http.get(path, headers={"host": "localhost"}).headers
    inside = {"server", "via", "x-router-target", "x-powered-by"}
    assert not [name for name in headers if name in inside or name.startswith("x-envoy")]


def test_every_answer_has_one_request_id(http: httpx.Client) -> None:
    for path in ("/v1/models", "/v1/messages", "/nothing", "/"):
        answer = http.get(path, headers={"host": "localhost", "x-request-id": "mine-1"})
        assert answer.headers.get_list("x-request-id") == ["mine-1"], path
        assert http.get(path, headers={"host": "localhost"}).headers["x-request-id"], path


def test_an_answer_to_anthropics_clients_has_their_request_id(http: httpx.Client) -> None:
    headers = {"host": "localhost", "anthropic-version": "2023-06-01"}
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/nothing"):
        answer = http.post(path, headers=headers, json={})
        assert answer.headers["request-id"] == answer.headers["x-request-id"]


def test_a_path_that_is_not_there_is_openais_error(running: Running, http: httpx.Client) -> None:
    answer = http.get("/nothing", headers={"host": "localhost"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error == {**error, "type": "invalid_request_error", "param": None, "code": "unknown_url"}
    client = openai.OpenAI(base_url=f"{running.url}/nothing", api_key="k", default_headers={"host": "localhost"})
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.list()
    assert caught.value.code == "unknown_url"
    assert caught.value.request_id


def test_anthropics_client_reads_the_gateways_errors(running: Running) -> None:
    client = anthropic.Anthropic(base_url=f"{running.url}/nothing", api_key="k", default_headers={"host": "localhost"})
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": caught.value.body["error"]["message"]},
        "request_id": caught.value.request_id,
    }


def _get(path: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"GET %s HTTP/1.1" % path, b"Host: localhost", b"Connection: close", *lines, b"", b""])


@pytest.mark.parametrize(
    ("status", "code", "request_"),
    [
        (400, "bad_request", b"GET /v1/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (400, "bad_request", b"NONSENSE\r\n\r\n"),
        (403, "forbidden", _get(b"/v1/x", b"Connection: upgrade\r\nUpgrade: websocket")),
        (404, "unknown_url", _get(b"/x")),
        (413, "request_too_large", _get(b"/v1/files", b"Content-Length: 99999999")),
        (426, "upgrade_required", b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        (431, "headers_too_large", _get(b"/v1/models", b"X: " + b"x" * 70_000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_has_a_code_and_a_request_id(running: Running, status: int, code: str, request_: bytes) -> None:
    head, _, body = running.raw(request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert json.loads(body)["error"]["code"] == code
    assert re.search(rb"x-request-id: [0-9a-f-]{36}", head)


@pytest.fixture
def lonely(tmp_path: Any, backend: int) -> Iterator[Running]:
    """A gateway with unavailable services and a limit of one request per second."""
    alone = dataclasses.replace(intent(free_port()), rates=Rates((1, 2), (1, 2)))
    with gateway(alone, tmp_path) as found:
        yield found


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_outages_and_rate_limits_have_the_vendors_error_format(lonely: Running, vendor: str) -> None:
    path = "/v1/messages" if vendor == "anthropic" else "/v1/chat/completions"
    headers = {"host": "localhost", "origin": ORIGIN}
    with httpx.Client(base_url=lonely.url, headers=headers, trust_env=False) as client:
        away = client.post(path, json={})
        answers = [client.post(path, json={}) for _ in range(4)]
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert away.status_code == 503
    assert away.headers["retry-after"]
    assert limited.headers["retry-after"]
    assert limited.headers["x-request-id"]
    assert limited.headers["access-control-allow-origin"] == ORIGIN
    if vendor == "openai":
        assert away.json()["error"]["code"] == "service_unavailable"
        assert limited.json()["error"]["code"] == "rate_limit_exceeded"
    else:
        assert away.json()["error"]["type"] == "api_error"
        assert limited.json()["error"]["type"] == "rate_limit_error"
        assert limited.json()["request_id"] == limited.headers["request-id"]
    assert "127.0.0.1" not in away.text


def test_the_root_path_describes_the_api_and_links_its_documents(http: httpx.Client) -> None:
    answer = http.get("/", headers={"host": "localhost"})
    assert answer.headers["content-type"] == "application/json"
    about = answer.json()
    assert about["name"] == "CogniForge Platform"
    assert {"router", "user", "prompt"} <= set(about["documents"])
    for path in about["documents"].values():
        assert http.get(path, headers={"host": "localhost"}).json()["path"] == "/openapi.json"
    assert set(about["operators"]) == set(OPERATORS_DOCUMENTS)
    for path in about["operators"]:
        assert http.get(path, headers={"host": "localhost"}).json()["path"] == OPERATORS_DOCUMENTS[path]
        assert http.post(path, headers={"host": "localhost"}).status_code == 404


def test_a_browser_may_call_from_a_configured_page_only(http: httpx.Client) -> None:
    def preflight(origin: str) -> httpx.Response:
        asked = {"host": "localhost", "origin": origin, "access-control-request-method": "POST"}
        return http.options("/v1/chat/completions", headers=asked)

    allowed = preflight(ORIGIN).headers
    assert allowed["access-control-allow-origin"] == ORIGIN
    assert "authorization" in allowed["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed
    assert "access-control-allow-origin" not in preflight("https://app.example.com.evil.example").headers
    answer = http.get("/v1/models", headers={"host": "localhost", "origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_without_configuration_no_page_may_read_answers(tmp_path: Any, backend: int) -> None:
    with gateway(dataclasses.replace(intent(backend), cors=None), tmp_path) as found:
        answer = httpx.get(f"{found.url}/v1/models", headers={"host": "localhost", "origin": ORIGIN}, trust_env=False)
    assert not [name for name in answer.headers if name.startswith("access-control")]
