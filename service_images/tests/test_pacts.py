"""What one service asks of another over HTTP, written down by who asks and kept by who answers (Pact)."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pact import Pact, Verifier, match

pytestmark = pytest.mark.contract
SOURCES = Path(__file__).resolve().parents[1]
for service in ("kit", "user", "retriever", "router"):
    sys.path.insert(0, str(SOURCES / service / "src"))

from kit import migrate  # noqa: E402
from kit.directory import Grant  # noqa: E402
from retriever.answering import Answering  # noqa: E402
from retriever.engines import Hit  # noqa: E402
from retriever.models import Ask  # noqa: E402
from retriever.searching import Readers  # noqa: E402
from user.__main__ import UserSettings, create  # noqa: E402


def _shared() -> Any:
    """The router's own test helpers."""
    name = "router_test_helpers"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SOURCES / "router" / "tests" / "conftest.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


KEY = "cf-the-key-of-this-pact"
HEADERS = {"authorization": f"Bearer {KEY}"}


def teams_of_a_user(folder: Path) -> None:
    """Retriever asks User."""
    pact = Pact("retriever", "user").with_specification("V4")
    (
        pact.upon_receiving("which teams a user is in")
        .given("ann of acme is in team red")
        .with_request("POST", "/v1/list-objects")
        .with_headers(HEADERS)
        .with_body({"tenant": "acme", "subject": "user:ann", "relation": "member", "type": "team"})
        .will_respond_with(200)
        .with_body({"objects": match.each_like("team:red")})
    )
    with pact.serve() as server:

        async def ask() -> list[str]:
            readers = Readers(str(server.url))
            try:
                return await readers._teams(Grant("acme", user="ann"), KEY)
            finally:
                await readers.close()

        assert asyncio.run(ask()) == ["team:red"]
    pact.write_file(folder)


def an_answer(folder: Path) -> None:
    """Retriever asks the router."""
    pact = Pact("retriever", "router").with_specification("V4")
    hit = Hit("1", "file-1", 0, "Cats sleep.", {}, 1.0)
    asked = Ask(question="Do cats sleep?", model="m")
    from retriever.answering import messages

    body = {"model": "m", "messages": messages(asked.question, [hit]), "max_tokens": 512, "temperature": 0}
    (
        pact.upon_receiving("a question with its passages")
        .given("a model m")
        .with_request("POST", "/v1/chat/completions")
        .with_headers(HEADERS)
        .with_body(body)
        .will_respond_with(200)
        .with_body(
            {
                "choices": match.each_like({"message": {"content": match.str("yes")}}),
                "usage": {"prompt_tokens": match.int(1), "completion_tokens": match.int(1)},
            }
        )
    )
    with pact.serve() as server:

        async def ask() -> str:
            answering = Answering(str(server.url))
            try:
                return (await answering.answer(asked, [hit], {"file-1": "cats.txt"}, dict(HEADERS))).answer
            finally:
                await answering.close()

        assert asyncio.run(ask()) == "yes"
    pact.write_file(folder)


@pytest.fixture(scope="module")
def pacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written anew by who asks, with the code that asks."""
    folder = tmp_path_factory.mktemp("pacts")
    teams_of_a_user(folder)
    an_answer(folder)
    return folder


@pytest.fixture
def user(service_database: Callable[[str], dict[str, Any]]) -> Iterator[str]:
    """User's URL."""
    settings = UserSettings(**service_database("user"), installation_key=KEY)
    migrate.migrate("user", settings.database(pooled=False))
    server, thread, url = _shared().serve(create(settings))
    while httpx.get(f"{url}/readyz", trust_env=False).status_code != 200:
        pass
    yield url
    server.should_exit = True
    thread.join()


def test_user_keeps_what_retriever_relies_on(pacts: Path, user: str) -> None:
    def ann_is_in_a_team(**_: Any) -> None:
        with httpx.Client(base_url=user, headers=HEADERS, trust_env=False) as client:
            client.post("/v1/tenants", json={"id": "acme"})
            relation = {"object": "team:red", "relation": "member", "subject": "user:ann"}
            client.post("/v1/tenants/acme/relations", json={"writes": [relation]}).raise_for_status()

    verifier = Verifier("user", host="127.0.0.1").add_source(str(pacts / "retriever-user.json")).add_transport(url=user)
    verifier.state_handler({"ann of acme is in team red": ann_is_in_a_team}, teardown=False).verify()


def test_the_router_keeps_what_retriever_relies_on(pacts: Path) -> None:
    helpers = _shared()
    target = helpers.Target("a")
    router = helpers.Running({"routes": [{"model": "m", "upstream": target.url}]})
    try:
        verifier = (
            Verifier("router", host="127.0.0.1")
            .add_source(str(pacts / "retriever-router.json"))
            .add_transport(url=router.url)
        )
        verifier.state_handler({"a model m": lambda **_: None}, teardown=False).verify()
    finally:
        router.stop()
        target.stop()


def test_a_provider_that_changes_is_found(pacts: Path) -> None:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def other(_: Any) -> JSONResponse:
        return JSONResponse({"names": ["team:red"]})

    server, thread, url = _shared().serve(Starlette(routes=[Route("/v1/list-objects", other, methods=["POST"])]))
    try:
        verifier = (
            Verifier("user", host="127.0.0.1").add_source(str(pacts / "retriever-user.json")).add_transport(url=url)
        )
        verifier.state_handler({"ann of acme is in team red": lambda **_: None}, teardown=False)
        with pytest.raises(RuntimeError):
            verifier.verify()
    finally:
        server.should_exit = True
        thread.join()
