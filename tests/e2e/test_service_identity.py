"""Services authenticate their callers by tokens, even if the network admits other callers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from local.images import pipeline
from tests.e2e.conftest import local_config
from tests.e2e.data_client import RESTRICTED, DataClient
from tests.waiting import until

pytestmark = pytest.mark.e2e
NAMESPACE, STRANGER = "cogniforge", "stranger"
AUDIENCES = ("prompt", "guardrails", "embeddings")
OPENED = {"prompt": "grpc", "model-demo": "http", "embeddings": "http"}
"""Ports of parts that are opened for the foreign pod."""
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
_ASK_REST = """
import json, urllib.error, urllib.request
def status(url, shown=None, body=None):
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {shown}"} if shown else {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
token = {name: open(f"/var/run/tokens/{name}").read().strip() for name in ("embeddings", "guardrails")}
model, chat = "http://model-demo.cogniforge.svc:8000", {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
found = {"model /health": status(f"{model}/health")}
for name, shown in {"none": None, "false": "cf-" + "a" * 40, "token": token["embeddings"]}.items():
    found[f"model /v1/chat/completions {name}"] = status(f"{model}/v1/chat/completions", shown, chat)
embed = "http://embeddings.cogniforge.svc:8080/v1/embeddings"
for name, shown in {"none": None, "false": "cf-" + "a" * 40, **token}.items():
    found[f"embeddings {name}"] = status(embed, shown, {"input": "x"})
print(json.dumps(found))
"""


@contextlib.contextmanager
def open_in_the_mesh(api: client.ApiClient, name: str) -> Iterator[None]:
    """The same parts without the mesh's identities, so that the tokens alone decide. Without a mesh: nothing."""
    if not local_config().own_mesh:
        yield
        return
    objects, made = client.CustomObjectsApi(api), list[tuple[str, str]]()
    place = ("security.istio.io", "v1", NAMESPACE)
    try:
        for part in OPENED:
            chosen = {"selector": {"matchLabels": {"app.kubernetes.io/name": part}}}
            specs = {
                ("PeerAuthentication", "peerauthentications"): {**chosen, "mtls": {"mode": "PERMISSIVE"}},
                ("AuthorizationPolicy", "authorizationpolicies"): {**chosen, "action": "ALLOW", "rules": [{}]},
            }
            for (kind, plural), spec in specs.items():
                body = {"apiVersion": "/".join(place[:2]), "kind": kind, "spec": spec}
                objects.create_namespaced_custom_object(*place, plural, body | {"metadata": {"name": f"{name}-{part}"}})
                made.append((plural, f"{name}-{part}"))
        yield
    finally:
        for plural, called in made:
            objects.delete_namespaced_custom_object(*place, plural, called)


@pytest.fixture
def stranger(api: client.ApiClient) -> Iterator[DataClient]:
    """A pod of another namespace whose account has the Router's name, with access to some parts' ports."""
    core, network = client.CoreV1Api(api), client.NetworkingV1Api(api)
    namespace = core.create_namespace({"metadata": {"generateName": f"{STRANGER}-"}}).metadata.name
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    try:
        for part, port in OPENED.items():
            opened = {
                "metadata": {"name": f"{namespace}-{part}"},
                "spec": {
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": part}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [peer], "ports": [{"port": port}]}],
                },
            }
            network.create_namespaced_network_policy(NAMESPACE, opened)
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "router"}})
        core.create_namespaced_pod(namespace, {"metadata": {"name": STRANGER}, "spec": _pod()})

        def ready() -> bool:
            statuses = core.read_namespaced_pod(STRANGER, namespace).status.container_statuses or []
            return bool(statuses) and all(status.ready for status in statuses)

        until(ready, 60)
        with open_in_the_mesh(api, namespace):
            yield DataClient(namespace)
    finally:
        made = {policy.metadata.name for policy in network.list_namespaced_network_policy(NAMESPACE).items}
        for name in made & {f"{namespace}-{part}" for part in OPENED}:
            network.delete_namespaced_network_policy(name, NAMESPACE)
        core.delete_namespace(namespace)


def _pod() -> dict[str, Any]:
    """Tokens that Kubernetes issues to any account, each for one service."""
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


def _asked(stranger: DataClient, program: str, unreached: set[Any]) -> dict[str, Any]:
    """Results of a program in the foreign pod, once none of them is `unreached`."""

    said = ""

    def answers() -> dict[str, Any] | None:
        nonlocal said
        result = stranger.kubectl("exec", STRANGER, "--", "python3", "-c", program)
        said = result.stdout + result.stderr
        found: dict[str, Any] = json.loads(result.stdout) if result.returncode == 0 else {}
        # A policy takes effect a moment after its creation.
        return found if found and not unreached & set(found.values()) else None

    return until(answers, 60, lambda: said)


def test_prompt_refuses_undeclared_callers_with_any_token(stranger: DataClient) -> None:
    """A foreign pod with the right account name has a valid token for Prompt, but is in another namespace."""
    refused = dict.fromkeys(("", "guardrails", "embeddings"), "UNAUTHENTICATED")
    found = _asked(stranger, _ASK, {"UNAVAILABLE", "DEADLINE_EXCEEDED"})
    assert found == {**refused, "prompt": "PERMISSION_DENIED"}


def test_a_model_server_and_embeddings_refuse_unauthenticated_rest_calls(stranger: DataClient) -> None:
    found = _asked(stranger, _ASK_REST, {0})
    assert found["model /health"] == 200, "the kubelet's question needs no key"
    assert {case: status for case, status in found.items() if case.startswith("model /v1")} == {
        "model /v1/chat/completions none": 401,
        "model /v1/chat/completions false": 401,
        "model /v1/chat/completions token": 401,
    }
    assert {case: status for case, status in found.items() if case.startswith("embeddings")} == {
        "embeddings none": 401,
        "embeddings false": 401,
        "embeddings guardrails": 401,
        "embeddings embeddings": 403,
    }
