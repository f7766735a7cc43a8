"""The pages in Chromium: each one, light and dark, wide and on a phone, without JavaScript, accessible, small, fast.

`UPDATE_IMAGES=1` writes the pictures of docs/images anew.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from PIL import Image

from local import paths
from local.toolchain import builder, packages
from local.toolchain.tools import ToolName
from service_images.conftest import NatsServer, running_postgres
from service_images.portal.tests.chromium import PHONE, WIDE, Chromium, chromium
from service_images.portal.tests.conftest import Browser
from service_images.portal.tests.running_platform import OPERATOR, SERVICES, Platform
from service_images.ports import free_port
from service_images.serving import served

pytestmark = [pytest.mark.drill("portal"), pytest.mark.timeout(3600)]
PAGES = ("sign-in", "mine", "ask", "routes", "prompts", "prompts/one?name=greeting", "knowledge", "now", "map",
         "query?path=/v1/models")  # fmt: skip
PICTURES = {
    ("mine", WIDE, False): "portal-mine",
    ("mine", PHONE, True): "portal-mine-phone",
    ("ask", WIDE, False): "portal-ask",
    ("routes", WIDE, True): "portal-routes",
    ("now", WIDE, True): "portal-now",
    ("map", WIDE, False): "portal-map",
}
"""Pictures in docs/images: (page, size, dark) by name of the file."""
HISTORY = 1_000_000
"""Requests of the last year, of 50 tenants."""
MOST_BYTES = 200_000
MOST_SECONDS = 0.3
KEY = "key-of-the-model-server"
AXE = Path(__file__).with_name("axe")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RULES = {"runOnly": {"type": "tag", "values": LEVELS}}
PRICES = (("demo", "input", "3"), ("demo", "output", "15"), ("*", "input", "0.4"), ("*", "output", "2"))
MADE_UP = """
INSERT INTO usage (source, id, tenant, period, time, model, operation, input_tokens, output_tokens, cached, "user",
                   duration_ms, trace)
SELECT 'history', n::text, CASE WHEN n %% 50 = 0 THEN 'default' ELSE 'team-' || n %% 50 END,
       date_trunc('month', at)::date, at, (ARRAY['demo', 'demo-small'])[1 + n %% 2], 'chat', 200 + n %% 900,
       20 + n %% 300, false, (ARRAY['ann', 'bob', 'search', 'reports'])[1 + (n / 10) %% 4], 300, ''
FROM (SELECT n, now() - interval '1 year' * power(random(), 1.3) AS at FROM generate_series(1, %s) AS n) AS x
"""
IMAGES = paths.PROJECT / "docs" / "images"


class Flat:
    """Vectors of texts, since what is found does not matter here: the first words of a text decide."""

    async def embed(self, texts: Any) -> list[Any]:
        """A vector for each text."""
        return [[1.0] + [0.0] * 383 for _ in texts]

    async def rerank(self, _: str, texts: Any) -> list[float]:
        """A score for each text."""
        return [0.5 for _ in texts]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the default model, as in the image."""
    program, port = builder.resolve(ToolName.INFERENCE_SIM), free_port()
    arguments = ["--model=demo", "--served-model-name=demo", f"--port={port}", "--max-model-len=8192", "--mode=random"]
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text(KEY)
    url = f"http://127.0.0.1:{port}"
    with served([program, *arguments], {"MODEL_KEY_FILE": str(key)}, f"{url}/health", starts_s=120):
        yield url


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, simulator: str) -> Iterator[Platform]:
    """All services, with a history."""
    from router import credentials

    mounted = tmp_path_factory.mktemp("credentials")
    (mounted / credentials.INSIDE).mkdir()
    (mounted / credentials.INSIDE / "127.0.0.1").write_text(KEY)
    nats = NatsServer(tmp_path_factory.mktemp("nats"))
    routes = [{"model": "demo", "upstream": simulator}, {"model": "demo-small", "upstream": simulator}]
    routes[1]["upstream_model"] = "demo"
    with running_postgres() as postgres, pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "FOLDER", mounted)
        made = Platform(tmp_path_factory.mktemp("platform"), postgres, nats, SERVICES)
        with made.running(routes, {"retriever": {"embedder": Flat()}}):
            _history(made)
            yield made
    nats.kill()


def _history(platform: Platform) -> None:
    """A year of usage of 50 tenants, of which the operator's own is one."""
    with psycopg.connect(platform.database("billing"), autocommit=True) as connection:
        connection.execute(MADE_UP, (HISTORY,))
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


def _until(holds: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that finds what keeps people from using a page."""
    packages.install(packages.OF_TESTS)
    folder = tmp_path_factory.mktemp("axe")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(AXE / file, folder)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def window(platform: Platform, axe: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser in which the operator has signed in."""
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as made:
        made.look(WIDE, dark=False)
        made.open(f"{platform.url}/portal/sign-in")
        made.submit("form[action='/portal/sign-in']", key=OPERATOR)
        assert made.evaluate("location.pathname") == "/portal/mine"
        yield made


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_each_page_fits_and_keeps_nobody_out(
    window: Chromium, platform: Platform, axe: str, page: str, dark: bool, size: tuple[int, int]
) -> None:
    window.look(size, dark=dark)
    window.open(f"{platform.url}/portal/{page}")
    assert window.complaints() == []
    received = window.received()
    assert 500 < sum(received.values()) < MOST_BYTES, received
    assert window.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "too wide"
    window.evaluate(axe + "; undefined")
    found = window.evaluate(f"axe.run(document, {json.dumps(RULES)})")
    told = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]]
    assert told == [] and len(found["passes"]) > 10
    if os.environ.get("UPDATE_IMAGES") and (name := PICTURES.get((page, size, dark))):
        IMAGES.mkdir(exist_ok=True)
        picture = Image.open(io.BytesIO(window.picture())).convert("RGB")
        picture.quantize(96, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def test_an_answer_arrives_in_pieces_and_can_be_had_without_scripts(window: Chromium, platform: Platform) -> None:
    window.look(WIDE, dark=False)
    window.open(f"{platform.url}/portal/ask?model=demo")
    window.evaluate("document.querySelector('#question').value = 'What is a Merkle tree?'")
    window.evaluate("document.querySelector('#ask').requestSubmit()")
    window.becomes("document.querySelector('#answer .text')?.textContent.length > 5")
    window.becomes("document.querySelector('#bill').textContent.includes('$')")
    assert window.evaluate("location.pathname") == "/portal/ask" and window.complaints() == []
    window.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.open(f"{platform.url}/portal/ask?model=demo")
        assert window.evaluate("document.querySelector('[data-copy]').hidden") is True
        window.submit("#ask", question="What is a Merkle tree?")
        shown = window.evaluate("document.querySelector('main').textContent")
        assert "Tokens written" in shown and "$" in shown
    finally:
        window.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("page", PAGES)
def test_each_page_works_without_scripts(window: Chromium, platform: Platform, page: str) -> None:
    window.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.open(f"{platform.url}/portal/{page}")
        assert window.evaluate("document.querySelector('h1').textContent.length > 2")
        assert not window.evaluate("!!document.querySelector('.notice.bad')")
    finally:
        window.call("Emulation.setScriptExecutionDisabled", value=False)


def test_no_script_of_a_text_runs_in_a_page(window: Chromium, platform: Platform) -> None:
    attack = "<img src=x onerror='document.title=1'><script>document.title=2</script>"
    with platform.client(OPERATOR) as client:
        client.put("/v1/tenants/default", json={"name": attack}).raise_for_status()
        window.open(f"{platform.url}/portal/mine")
        client.put("/v1/tenants/default", json={"name": "CogniForge"}).raise_for_status()
    assert window.evaluate("document.title").startswith("Mine")
    assert attack in window.evaluate("document.querySelector('main').textContent")


def test_pages_are_made_within_300_ms(platform: Platform) -> None:
    told: dict[str, float] = {}
    with platform.client() as client:
        browser = Browser(client)
        browser.sign_in(OPERATOR)
        for page in PAGES:
            taken = [_seconds(client, f"/portal/{page}") for _ in range(40)]
            told[page] = statistics.quantiles(taken, n=20)[-1]
            print(f"{page}: median {1000 * statistics.median(taken):.0f} ms, p95 {1000 * told[page]:.0f} ms")
    assert max(told.values()) <= MOST_SECONDS, told


def _seconds(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path, headers={"x-request-id": uuid.uuid4().hex})
    assert answer.status_code == 200, (path, answer.status_code)
    return time.perf_counter() - began
