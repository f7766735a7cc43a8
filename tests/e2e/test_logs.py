"""The local environment with collection of log lines: they are found in time, and survive a restart of the store."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from openai import OpenAI

from components.observability.log_names import COLLECTOR, COLLECTOR_NAMESPACE, STORE, STORE_NAMESPACE
from tests.e2e.conftest import forge
from tests.e2e.data_client import main_process
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.drill("logs"), pytest.mark.timeout(1500)]
FOUND_S = 5
"""A line is found at most so long after it was written (issue 22)."""
NAMESPACE = "cogniforge"


def found(*asked: str) -> list[dict[str, Any]]:
    """Lines that `forge logs` finds."""
    return json.loads(forge("logs", "--since", "1h", "--output", "json", "--lines", "1000", *asked).stdout)["lines"]


def written(api: client.ApiClient, pod: str, text: str) -> float:
    """When the line with this text was on the node, by the monotonic clock: Kubernetes shows it."""

    def shown() -> bool:
        try:
            return text in client.CoreV1Api(api).read_namespaced_pod_log(pod, NAMESPACE, tail_lines=200)
        except ApiException:  # its container does not run yet
            return False

    until(shown, 60)
    return time.monotonic()


def a_pod(api: client.ApiClient, text: str, name: str) -> Any:
    """A pod of the platform, by its image and rights, that writes a text and ends."""
    core = client.CoreV1Api(api)
    (router,) = core.list_namespaced_pod(NAMESPACE, label_selector="app.kubernetes.io/name=router").items[:1]
    container = router.spec.containers[0]
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "writer",
                "image": container.image,
                "command": ["python3", "-c", f"print({text!r}, flush=True)"],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}},
                "securityContext": client.ApiClient().sanitize_for_serialization(container.security_context),
            }
        ],
    }
    labels = {"app.kubernetes.io/name": "line-writer"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    return core.create_namespaced_pod(NAMESPACE, body)


@pytest.fixture
def writer(api: client.ApiClient) -> Iterator[tuple[str, str]]:
    """(name, text) of a pod that has written a line."""
    word = secrets.token_hex(8)
    name, text = f"line-writer-{word}", json.dumps({"message": f"word {word}", "level": "warning", "tenant": "acme"})
    a_pod(api, text, name)
    yield name, text
    try:
        client.CoreV1Api(api).delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    except ApiException as error:
        assert error.status == 404, error.body


def test_a_line_is_found_in_time_with_the_label_of_its_pod(api: client.ApiClient, writer: tuple[str, str]) -> None:
    name, text = writer
    word = json.loads(text)["message"]
    begun = written(api, name, word)
    until(lambda: found("--grep", word), 60)
    took = time.monotonic() - begun
    print(f"logs: a line is found {took:.1f} s after it was written, with the time of `forge logs`")
    (line,) = found("--grep", word)
    assert (line["service"], line["pod"], line["container"]) == ("line-writer", name, "writer")
    assert (line["level"], line["tenant"], line["text"]) == ("warning", "acme", text)
    assert took < FOUND_S


def test_lines_of_a_pod_that_is_gone_and_of_a_store_that_was_killed_are_found(
    api: client.ApiClient, writer: tuple[str, str]
) -> None:
    name, text = writer
    word, core = json.loads(text)["message"], client.CoreV1Api(api)
    until(lambda: found("--grep", word), 60)
    core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    core.delete_namespaced_pod(f"{STORE}-0", STORE_NAMESPACE, grace_period_seconds=0)

    def ready() -> bool:
        try:
            status = core.read_namespaced_pod(f"{STORE}-0", STORE_NAMESPACE).status
        except ApiException:
            return False
        return any(one.type == "Ready" and one.status == "True" for one in status.conditions or ())

    until(ready, 120)
    (line,) = found("--grep", word)
    assert line["pod"] == name


def test_a_request_is_found_by_its_service(openai_client: OpenAI) -> None:
    openai_client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hello"}], max_tokens=4)
    # Each is asked for by name: the newest lines of all parts need not have one of a quiet part.
    for part in ("router", "postgres", "kafka"):
        until(lambda part=part: found(part), 30)
        assert {line["service"] for line in found(part)} == {part}


def test_the_collector_is_not_root_and_has_no_capability(api: client.ApiClient) -> None:
    (pod,) = client.CoreV1Api(api).list_namespaced_pod(COLLECTOR_NAMESPACE).items
    assert pod.metadata.labels["app.kubernetes.io/name"] == COLLECTOR
    (state,) = pod.status.container_statuses
    pid = main_process(state.container_id.removeprefix("containerd://"))
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == ["65532"] * 4 and status["Gid"].split() == ["0"] * 4
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
