"""What one service asks of another over HTTP, written down by who asks and kept by who answers (Pact)."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from pact import Pact, Verifier, match

pytestmark = pytest.mark.contract
SOURCES = Path(__file__).resolve().parents[1]
for service in ("kit", "user", "retriever", "router"):
    sys.path.insert(0, str(SOURCES / service / "src"))

from retriever.answering import Answering  # noqa: E402
from retriever.engines import Hit  # noqa: E402
from retriever.models import Ask  # noqa: E402


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
    an_answer(folder)
    return folder


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
        return JSONResponse({"choices": [{"message": {"text": "yes"}}]})

    server, thread, url = _shared().serve(Starlette(routes=[Route("/v1/chat/completions", other, methods=["POST"])]))
    try:
        verifier = (
            Verifier("router", host="127.0.0.1").add_source(str(pacts / "retriever-router.json")).add_transport(url=url)
        )
        verifier.state_handler({"a model m": lambda **_: None}, teardown=False)
        with pytest.raises(RuntimeError):
            verifier.verify()
    finally:
        server.should_exit = True
        thread.join()
