"""The gateway's answers to clients."""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

import httpx
import openai
import pytest
import testinfra
from kubernetes import client
from openai import OpenAI

from cli import local_environment
from local.node.settings import NodePaths

pytestmark = pytest.mark.e2e
QUESTION: Any = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def http(outputs: dict[str, Any]) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(local_environment.authority_file()))
    return httpx.Client(verify=context, base_url=outputs["url"].removesuffix("/v1"), trust_env=False)


def test_an_unstreamed_answer(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=16)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def test_a_streamed_answer_comes_in_pieces(openai_client: OpenAI) -> None:
    stream = openai_client.chat.completions.create(
        model="demo",
        messages=QUESTION,
        max_tokens=32,
        stream=True,
        extra_body={"ignore_eos": True},  # otherwise the simulator's answer may be a single word
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 1


def test_the_models_are_listed(openai_client: OpenAI) -> None:
    assert "demo" in {model.id for model in openai_client.models.list()}


def test_an_unknown_model_is_a_not_found_error(openai_client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        openai_client.chat.completions.create(model="no-such-model", messages=QUESTION)


def test_a_bad_request_is_explained(openai_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="messages"):
        openai_client.chat.completions.create(model="demo", messages=[])


def test_requests_without_a_key_are_refused(http: httpx.Client) -> None:
    answer = http.get("/v1/models")
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_a_wrong_key_is_refused(http: httpx.Client) -> None:
    assert http.get("/v1/models", headers={"authorization": "Bearer cf-wrong"}).status_code == 401


def test_the_certificate_is_checked(outputs: dict[str, Any]) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{outputs['url']}/models", trust_env=False)


def test_a_body_over_the_limit_is_refused(http: httpx.Client, outputs: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {outputs['apiKey']}"}
    answer = http.post("/v1/chat/completions", content=b"x" * (17 * 2**20), headers=headers)
    assert answer.status_code == 413


def test_other_paths_do_not_exist(http: httpx.Client, outputs: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {outputs['apiKey']}"}
    assert http.get("/metrics", headers=headers).status_code == 404


def test_the_request_id_is_kept(http: httpx.Client, outputs: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {outputs['apiKey']}", "x-request-id": "mine-1"}
    assert http.get("/v1/models", headers=headers).headers["x-request-id"] == "mine-1"


def test_the_key_does_not_reach_the_services(
    outputs: dict[str, Any], http: httpx.Client, api: client.ApiClient
) -> None:
    headers = {"authorization": f"Bearer {outputs['apiKey']}"}
    assert http.get("/v1/models", headers=headers).status_code == 200
    core = client.CoreV1Api(api)
    pods = core.list_namespaced_pod("cogniforge", label_selector="app.kubernetes.io/name=router").items
    logs = "".join(core.read_namespaced_pod_log(p.metadata.name, "cogniforge") for p in pods)
    assert outputs["apiKey"] not in logs


def test_a_rolling_update_fails_no_request(openai_client: OpenAI, api: client.ApiClient) -> None:
    apps = client.AppsV1Api(api)
    failures: list[str] = []
    answered = 0
    stop = threading.Event()

    def ask() -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                openai_client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=4)
                answered += 1
            except openai.OpenAIError as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    restart = {"spec": {"template": {"metadata": {"annotations": {"restarted": str(time.time())}}}}}
    apps.patch_namespaced_deployment("router", "cogniforge", restart)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        status = apps.read_namespaced_deployment("router", "cogniforge")
        old_pods = client.CoreV1Api(api).list_namespaced_pod(
            "cogniforge", label_selector="app.kubernetes.io/name=router"
        )
        observed = status.status.observed_generation >= status.metadata.generation
        if observed and status.status.updated_replicas == 1 and len(old_pods.items) == 1:
            break
        time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert answered > 20


@pytest.mark.usefixtures("kubectl_on_path")
def test_the_service_runs_without_privileges(api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_namespaced_pod("cogniforge", label_selector="app.kubernetes.io/name=router")
    name = pods.items[0].metadata.name
    host = testinfra.get_host(
        f"kubectl://{name}?namespace=cogniforge&container=router&kubeconfig={NodePaths().kubeconfig}"
    )
    assert host.check_output("cat /proc/self/status | grep -c 'CapEff:.0000000000000000'") == "1"
    assert host.run("touch /opt/app/x").rc != 0, "the root file system is read-only"


@pytest.mark.usefixtures("kubectl_on_path")
def test_the_service_listens_and_knows_its_upstream(api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_namespaced_pod("cogniforge", label_selector="app.kubernetes.io/name=router")
    host = testinfra.get_host(
        f"kubectl://{pods.items[0].metadata.name}?namespace=cogniforge&kubeconfig={NodePaths().kubeconfig}"
    )
    assert host.file("/etc/router/routes.json").contains("http://model-demo.cogniforge:8000")


def test_the_root_path_links_the_documents(http: httpx.Client) -> None:
    about = http.get("/").raise_for_status().json()
    for path in about["documents"].values():
        assert http.get(path).raise_for_status().json()["openapi"].startswith("3.")


def test_operators_read_the_apis_of_all_services_in_one_document_and_on_a_page(
    http: httpx.Client, operator: httpx.Client
) -> None:
    about = http.get("/").raise_for_status().json()
    assert set(about["operators"]) == {"/openapi.json", "/docs"}
    found = operator.get("/openapi.json").raise_for_status().json()
    assert found["servers"] == [{"url": str(operator.base_url).rstrip("/")}]
    for name, path in about["documents"].items():
        own = http.get(path).json()
        assert set(own["paths"]) <= set(found["paths"]), name
    page = operator.get("/docs").raise_for_status()
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert all(path in page.text for path in found["paths"])
    for path in about["operators"]:
        assert http.get(path).status_code == 401
    key = operator.headers["authorization"].removeprefix("Bearer ")
    assert http.get("/docs", auth=("anybody", key)).status_code == 200, "as a browser sends what its user types in"


def test_a_name_with_an_encoded_slash_reaches_its_service(http: httpx.Client, outputs: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {outputs['apiKey']}"}
    answer = http.get("/api/public/v2/prompts/no-such%2Fprompt", headers=headers)
    assert answer.status_code in (403, 404)
    assert answer.json()["error"]["code"] not in ("invalid_path", "unknown_url")
    refused = http.get("/v1/files/a%2Fb", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_path")


def test_no_answer_names_internal_servers(http: httpx.Client, outputs: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {outputs['apiKey']}"}
    question = {"model": "demo", "messages": QUESTION, "max_tokens": 2}
    for answer in (http.get("/nothing"), http.post("/v1/chat/completions", json=question, headers=headers)):
        assert not {"server", "x-router-target"} & set(answer.headers)
        assert not [name for name in answer.headers if name.startswith("x-envoy")]
        assert answer.headers["x-request-id"]
