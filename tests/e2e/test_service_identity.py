"""Services know their callers by tokens, even where the network lets a stranger through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from local.images import pipeline
from tests.e2e.data_client import RESTRICTED, DataClient
from tests.waiting import until

pytestmark = pytest.mark.e2e
NAMESPACE, STRANGER = "cogniforge", "stranger"
AUDIENCES = ("prompt", "guardrails")
_ASK = """
import json, os, grpc
from cogniforge.prompt.v1 import prompt_pb2 as messages, prompt_pb2_grpc as service
stub = service.PromptServiceStub(grpc.insecure_channel("prompt-rpc.cogniforge.svc:9090"))
def answered(token):
    metadata = (("x-service-token", token),) if token else ()
    try:
        stub.Render(messages.RenderRequest(tenant="default", name="none"), timeout=5, metadata=metadata)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"
names = [name for name in os.listdir("/var/run/tokens") if not name.startswith(".")]
tokens = {name: open(f"/var/run/tokens/{name}").read().strip() for name in names}
print(json.dumps({name: answered(token) for name, token in {"": "", **tokens}.items()}))
"""


@pytest.fixture
def stranger(api: client.ApiClient) -> Iterator[DataClient]:
    """A pod of another namespace whose account has the Router's name and which Prompt's port is opened for."""
    core, network = client.CoreV1Api(api), client.NetworkingV1Api(api)
    namespace = core.create_namespace({"metadata": {"generateName": f"{STRANGER}-"}}).metadata.name
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    opened = {
        "metadata": {"name": namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prompt"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": [{"port": "grpc"}]}],
        },
    }
    network.create_namespaced_network_policy(NAMESPACE, opened)
    try:
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "router"}})
        core.create_namespaced_pod(namespace, {"metadata": {"name": STRANGER}, "spec": _pod()})

        def ready() -> bool:
            statuses = core.read_namespaced_pod(STRANGER, namespace).status.container_statuses or []
            return bool(statuses) and all(status.ready for status in statuses)

        until(ready, 60)
        yield DataClient(namespace)
    finally:
        network.delete_namespaced_network_policy(namespace, NAMESPACE)
        core.delete_namespace(namespace)


def _pod() -> dict[str, Any]:
    """With tokens that Kubernetes makes for whoever asks: one for Prompt, one for another service."""
    tokens = [{"serviceAccountToken": {"path": name, "audience": name, "expirationSeconds": 600}} for name in AUDIENCES]
    container = {
        "name": "client",
        "image": pipeline.read_index()["prompt"].reference,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "tokens", "mountPath": "/var/run/tokens"}],
    }
    return {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "serviceAccountName": "router",
        "containers": [container],
        "volumes": [{"name": "tokens", "projected": {"sources": tokens}}],
    }


def test_prompt_answers_no_stranger_whatever_token_it_has(stranger: DataClient) -> None:
    """A stranger of the right name has a true token for Prompt, and is of another namespace."""

    def answers() -> dict[str, str] | None:
        told = stranger.kubectl("exec", STRANGER, "--", "python3", "-c", _ASK)
        found: dict[str, str] = json.loads(told.stdout) if told.returncode == 0 else {}
        # A policy that opens the way is in force a moment after it was made.
        return found if found and not {"UNAVAILABLE", "DEADLINE_EXCEEDED"} & set(found.values()) else None

    assert until(answers, 60) == {"": "UNAUTHENTICATED", "guardrails": "UNAUTHENTICATED", "prompt": "PERMISSION_DENIED"}
