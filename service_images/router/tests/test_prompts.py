"""The Router with a real Prompt service: stored prompts in requests, cached until a label moves."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from .conftest import serve, until

SOURCES = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCES / "prompt" / "src"))

from kit import bus, migrate  # noqa: E402
from prompt.__main__ import PromptSettings, create  # noqa: E402
from prompt.store import LATEST  # noqa: E402
from router.__main__ import create as create_router  # noqa: E402
from router.core import Core  # noqa: E402
from router.front import Front  # noqa: E402
from router.prompts import Prompts  # noqa: E402
from router.routes import RouteTable  # noqa: E402

from service_images.ports import free_port  # noqa: E402

CHAT = [{"role": "system", "content": "Be {{ how }}."}, {"role": "user", "content": "I am {{ who }}."}]
MOVED = [{"role": "system", "content": "Moved {{ how }} {{ who }}"}]
NAMED = {"id": "greeting", "variables": {"how": "brief", "who": "ann"}}


class Service:
    """A Prompt service with a stored prompt."""

    def __init__(self, **settings: Any) -> None:
        self.target = f"127.0.0.1:{settings['rpc_port']}"
        self.server, self._thread, url = serve(create(PromptSettings(**settings, host="127.0.0.1")))
        self.client = httpx.Client(base_url=url, trust_env=False)
        self.add(CHAT, labels=["production"], config={"temperature": 0.25, "model": "another", "seed": 7})

    def add(self, prompt: Any, name: str = "greeting", **more: Any) -> None:
        """A version."""
        kind = "text" if isinstance(prompt, str) else "chat"
        answer = self.client.post("/v1/prompts", json={"name": name, "prompt": prompt, "type": kind, **more})
        assert answer.status_code == 201, answer.text

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self.server.should_exit = True
        self._thread.join()


@pytest.fixture
def service(service_database: Callable[[str], dict[str, Any]], nats_server: Any) -> Iterator[Service]:
    nats_server.make_buckets("labels")
    settings = {**service_database("prompt"), "rpc_port": free_port(), "nats_url": nats_server.url}
    migrate.migrate("prompt", PromptSettings(**settings).database(pooled=False))
    made = Service(**settings)
    yield made
    made.stop()


@pytest.fixture
def router(service: Service, targets: Callable[[int], list[Any]], nats_server: Any) -> Iterator[Any]:
    """(Router that follows labels, its target)."""
    (target,) = targets(1)
    core = Core(RouteTable.model_validate({"routes": [{"model": "m", "targets": [{"upstream": target.url}]}]}))
    core.prompts = Prompts(service.target)
    labels = core.prompts.labels(nats_server.url, {})
    app = create_router(core, labels)
    server, thread, url = serve(app, Front.of(core))
    client = httpx.Client(base_url=url, trust_env=False, timeout=20)

    def ask(path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        return client.post(path, json={"model": "m", "prompt": NAMED, **body})

    yield SimpleNamespace(ask=ask, seen=target.seen, core=core, labels=labels)
    client.close()
    server.should_exit = True
    thread.join()


def test_a_stored_prompt_precedes_the_requests_messages(router: Any) -> None:
    assert router.ask(messages=[{"role": "user", "content": "Hello"}]).status_code == 200
    said = [m["content"] for m in router.seen[0]["messages"]]
    assert said == ["Be brief.", "I am ann.", "Hello"] and "prompt" not in router.seen[0]


def test_a_stored_prompt_may_be_all_there_is(router: Any) -> None:
    assert router.ask().status_code == 200
    assert [m["role"] for m in router.seen[0]["messages"]] == ["system", "user"]


def test_settings_of_a_version_apply_unless_the_request_sets_them(router: Any) -> None:
    router.ask(temperature=1)
    assert router.seen[0]["temperature"] == 1 and router.seen[0]["seed"] == 7 and router.seen[0]["model"] == "m"


def test_a_text_is_a_system_message(router: Any, service: Service) -> None:
    service.add("Speak {{ how }}.", "style", labels=["plain"])
    router.ask(prompt={**NAMED, "id": "style", "label": "plain"})
    assert router.seen[0]["messages"] == [{"role": "system", "content": "Speak brief."}]


def test_a_version_is_named_by_its_number(router: Any, service: Service) -> None:
    service.add(MOVED, labels=["production"])
    router.ask(prompt={**NAMED, "version": "1"})
    assert router.seen[0]["messages"][0]["content"] == "Be brief."


def test_responses_take_stored_prompts_too(router: Any) -> None:
    assert router.ask("/v1/responses", input="Hello").status_code == 200
    assert [m["content"] for m in router.seen[0]["input"]] == ["Be brief.", "I am ann.", "Hello"]


@pytest.mark.parametrize(
    ("prompt", "status", "words"),
    [
        ({"id": "nobody"}, 404, "prompt"),
        ({"id": "greeting"}, 400, "the value is missing"),
        ({**NAMED, "label": "x", "version": 1}, 400, "one of version, label"),
        ({**NAMED, "version": "first"}, 400, "a number"),
        ({**NAMED, "more": 1}, 400, "unknown field"),
        ({"variables": {}}, 400, "id"),
        ({**NAMED, "label": "NO SUCH"}, 400, "label"),
    ],
)
def test_mistakes_in_a_prompt_reference_are_reported(router: Any, prompt: Any, status: int, words: str) -> None:
    answer = router.ask(prompt=prompt)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"] and router.seen == []


def test_rendered_prompts_are_cached(router: Any, service: Service) -> None:
    # The news of the prompt's first labels would end what is kept.
    keys = [bus.key("default", "greeting", label) for label in ("production", LATEST)]
    until(lambda: all(map(router.labels.revision, keys)))
    router.ask()
    service.stop()
    assert router.ask().status_code == 200
    assert router.seen[0] == router.seen[1]


def test_a_moved_label_holds_within_a_second(router: Any, service: Service) -> None:
    router.ask()
    service.add(MOVED, labels=["production"])
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        router.ask()
        if router.seen[-1]["messages"][0]["content"] == "Moved brief ann":
            return
        time.sleep(0.02)
    pytest.fail("the label that moved is not followed within a second")


def test_without_the_service_a_request_is_refused(router: Any, service: Service) -> None:
    service.stop()
    answer = router.ask(prompt={**NAMED, "variables": {"how": "new", "who": "new"}})
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "unavailable"


def test_a_router_without_prompts_refuses_them_with_the_reason(router: Any) -> None:
    router.core.prompts = None
    assert router.ask().json()["error"]["code"] == "unsupported"
