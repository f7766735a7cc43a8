"""Each query of each dashboard finds data in the Prometheus of the local environment, which other tests have used."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI

from cli.cluster import kubectl
from components.observability.prometheus import NAMESPACE, PART
from components.services.registry import SERVICES
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.drill("prometheus"), pytest.mark.timeout(300)]
PLATFORM, WITHIN_S = "cogniforge", 150
"""Recording rules are evaluated each minute, after two scrapes at least."""
WITHOUT_DATA = {
    r".* / Dead letters / .*": "only topics with dead letters have a series",
    r"Cost / Usage events / dead letters": "the same",
    r"Cost / Answers from the cache / .*": "no model of the environment has a cache for answers",
    r"AI Router / Look-ups of the cache per second / .*": "the same",
    r"AI Router / Failed attempts per second, by target / .*": "the simulated model does not fail",
    r"Cost / Requests whose tokens the Router has counted / .*": "the simulated model reports tokens",
    r"Guardrails / Large texts per second / .*": "nobody has sent one",
    r"(?!CogniForge|AI Router).* / (Error budgets left|Pace at which .*) / .*": "it takes requests, in several minutes",
}
"""Queries that find nothing in an environment without faults, as a pattern of "board / panel / legend", with why."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """URL of the API server, for an operator."""
    with subprocess.Popen([*kubectl(True, ""), "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        said = proxy.stdout.readline()
        (port,) = re.findall(r":(\d+)", said)
        yield f"http://127.0.0.1:{port}"
        proxy.terminate()


@pytest.fixture(scope="module")
def shown(cluster: str) -> dict[str, str]:
    """Every query that the Portal shows, by "board / panel / legend"."""
    path = f"/apis/apps/v1/namespaces/{PLATFORM}/deployments/portal"
    (container,) = httpx.get(cluster + path, trust_env=False).json()["spec"]["template"]["spec"]["containers"]
    boards = json.loads(next(one["value"] for one in container["env"] if one["name"] == "SERVICE_BOARDS"))
    return {
        f"{board['title']} / {panel['title']} / {query['legend']}": query["query"].replace("$__rate_interval", "1h")
        for board in boards
        for panel in board["panels"]
        for query in panel["queries"]
    }


@pytest.fixture(scope="module")
def asked(cluster: str) -> Callable[[str], list[Any]]:
    """Series that Prometheus answers to a query."""
    url = f"{cluster}/api/v1/namespaces/{NAMESPACE}/services/{PART}:http/proxy/api/v1/query"

    def ask(query: str) -> list[Any]:
        answer = httpx.get(url, params={"query": query}, trust_env=False, timeout=30)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return answer.json()["data"]["result"]

    return ask


def test_every_panel_shows_data(
    shown: dict[str, str],
    asked: Callable[[str], list[Any]],
    openai_client: OpenAI,
    operator: httpx.Client,
) -> None:
    assert len(shown) > 200
    missing = {
        name: query for name, query in shown.items() if not any(re.fullmatch(pattern, name) for pattern in WITHOUT_DATA)
    }

    def nothing_missing() -> bool:
        for _ in openai_client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hello!"}], max_tokens=4, stream=True
        ):
            pass
        for record in SERVICES.values():
            for prefix in record.prefixes:
                operator.get(prefix.path)
        for name in [name for name, query in missing.items() if asked(query)]:
            del missing[name]
        return not missing

    until(nothing_missing, WITHIN_S, lambda: "\n".join(missing))
