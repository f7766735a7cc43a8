"""KServe's controller, built from its tag, runs our InferenceServices; the Router discovers them."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client

from components.ai.model_inputs import args_of
from components.ai.model_server import key_secret
from components.ai.model_serving import PORT, ModelServing
from components.ai.service import AiService
from components.cluster.namespace import PlatformNamespace
from components.config.base import Resources
from components.config.gpu import GpuPool
from components.config.models import Model
from components.config.observability import Observability
from components.security.api_key import ApiKey
from components.services import making, routing
from components.services.record import PORT as SERVICE_PORT
from components.services.record import Bundled
from components.services.registry import FRONT
from local.images.pipeline import read_index
from local.node.settings import NodePaths
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.engine.conftest import Engine
from tests.engine.definitions import installed
from tests.waiting import until

pytestmark = pytest.mark.drill("controllers")
OPERATOR, NAMESPACE, POOL = "kserve", "kserve-models", "kserve-pool"
MODELS = ("org/Model-A", "second")
SLICE = "nvidia.com/mig-1g.10gb"
_SETTINGS = {
    "deploy": {"defaultDeploymentMode": "Standard"},
    "ingress": {"ingressGateway": "none/none", "ingressDomain": "example.com", "disableIngressCreation": True},
    "storageInitializer": {
        "image": "none",
        "memoryRequest": "64Mi",
        "memoryLimit": "64Mi",
        "cpuRequest": "10m",
        "cpuLimit": "10m",
    },
    "inferenceService": {"resource": {}},
    "security": {"autoMountServiceAccountToken": False},
    "localModel": {"enabled": False},
}


@pytest.fixture(scope="module")
def definitions(api: client.ApiClient) -> Iterator[None]:
    """The CRDs of KServe and KEDA, as their charts bring them."""
    with installed(api, "kserve/*", "keda/*scaledobjects*"):
        yield


@pytest.fixture(scope="module")
def slices(core: client.CoreV1Api) -> Iterator[None]:
    """The local node as a node of a GPU pool, with slices that the simulator requests without using them."""
    name = core.list_node(label_selector="!cogniforge.dev/gpu-pool").items[0].metadata.name
    core.patch_node(name, {"metadata": {"labels": {"cogniforge.dev/gpu-pool": POOL}}})
    core.patch_node_status(name, {"status": {"capacity": {SLICE: "4"}, "allocatable": {SLICE: "4"}}})
    yield
    core.patch_node_status(name, {"status": {"capacity": {SLICE: None}, "allocatable": {SLICE: None}}})
    core.patch_node(name, {"metadata": {"labels": {"cogniforge.dev/gpu-pool": None}}})


def _certificate(folder: Path) -> None:
    """Certificate for the controller's webhook server, which is not called here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    issued = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True)
    (folder / "tls.crt").write_bytes(issued.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "tls.key").write_bytes(private)


@pytest.fixture(scope="module")
def controller(definitions: None, core: client.CoreV1Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """KServe's controller against the local API server. Yields its log."""
    folder = tmp_path_factory.mktemp("kserve")
    core.create_namespace({"metadata": {"name": OPERATOR}})
    data = {key: json.dumps(value) for key, value in _SETTINGS.items()}
    core.create_namespaced_config_map(OPERATOR, {"metadata": {"name": "inferenceservice-config"}, "data": data})
    _certificate(folder / "k8s-webhook-server" / "serving-certs")
    command = [str(builder.resolve(ToolName.KSERVE)), "--metrics-addr", "127.0.0.1:0"]
    command += ["--health-probe-addr", "127.0.0.1:0", "--webhook-port", str(free_port())]
    env = {**os.environ, "KUBECONFIG": str(NodePaths().kubeconfig), "TMPDIR": str(folder), "POD_NAMESPACE": OPERATOR}
    log = folder / "controller.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
    yield log
    process.terminate()
    process.wait(30)
    core.delete_namespace(OPERATOR)


def _model(name: str) -> Model:
    serving = {"weights": "hf://none/none", "gpuPool": POOL, "slice": "1g.10gb"}
    resources = {"cpu": "50m", "memory": "128Mi"}
    data = {"name": name, "engine": "simulator", "resources": resources, "timeoutSeconds": 30, "serving": serving}
    return Model.model_validate(data)


def _program(names: list[str]) -> Callable[[], None]:
    """The Router with an unavailable model, and models that KServe serves."""
    pool = GpuPool.model_validate({"name": POOL, "gpu": "h100-80", "gpusPerNode": 1, "mig": "all-1g.10gb"})
    index = read_index()

    def program() -> None:
        # Traffic is denied by default, as in an environment.
        owned: Any = {"namespace": NAMESPACE, "owner": "tests"}
        within = pulumi.ResourceOptions(depends_on=[PlatformNamespace("namespace", owned)])
        keys: list[pulumi.Resource] = []
        for name in names:
            model = _model(name)
            assert model.serving is not None
            image = index["inference-sim"].reference
            secret = key_secret(model)
            key = ApiKey(secret, {"namespace": NAMESPACE, "secret_name": secret}, within)
            keys.append(key)
            args: Any = {
                **args_of(model, pool),
                "callers": ["router"],
                "namespace": NAMESPACE,
                "image": image,
                "key_secret": key.secret_name,
                "prometheus": "http://prometheus:9090",
            }
            ModelServing(name.replace("/", "-").lower(), args, within)
        static = {"absent": (Model.model_validate({"name": "absent"}), f"http://absent.{NAMESPACE}:8000")}
        section = Bundled(resources=Resources(cpu="50m", memory="256Mi"))
        intent = replace(making.intent_for(FRONT, section, Observability(), {}), reads=routing.SERVED)
        files = {"routes.json": routing.route_table(static)}
        # The list of names is constant, so that the Router's pods stay: later Secrets are mounted without a restart.
        credentials = routing.credentials([_model(name) for name in MODELS], NAMESPACE)
        args: Any = {
            "namespace": NAMESPACE,
            "image": index["router"].reference,
            "files": files,
            "credentials": credentials,
            "environment": routing.DISCOVER,
        }
        AiService("router", intent, args, pulumi.ResourceOptions.merge(within, pulumi.ResourceOptions(depends_on=keys)))

    return program


@pytest.fixture(scope="module")
def served(controller: Path, slices: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Path]]:
    engine = Engine(tmp_path_factory.mktemp("serving"))
    try:
        # The Router becomes ready with the first discovered model, so both are created together.
        engine.up(_program([*MODELS[:1]]))
        yield engine, controller
    finally:
        engine.destroy()  # before the controller ends, since its objects have finalizers


@pytest.fixture(scope="module")
def http(served: Any, core: client.CoreV1Api) -> httpx.Client:
    address = core.read_namespaced_service("router", NAMESPACE).spec.cluster_ip
    return httpx.Client(base_url=f"http://{address}:{SERVICE_PORT}", trust_env=False, timeout=10)


def models(http: httpx.Client) -> set[str]:
    return {model["id"] for model in http.get("/v1/models").raise_for_status().json()["data"]}


def test_the_controller_makes_a_deployment_with_our_slice(served: Any, api: client.ApiClient) -> None:
    deployment = client.AppsV1Api(api).read_namespaced_deployment("model-org-model-a-predictor", NAMESPACE)
    container = deployment.spec.template.spec.containers[0]
    assert container.resources.limits[SLICE] == "1"
    assert "--served-model-name=org/Model-A" in container.args
    assert container.security_context.read_only_root_filesystem


def test_the_router_finds_the_model(http: httpx.Client) -> None:
    until(lambda: "org/Model-A" in models(http), 60)


def test_a_found_model_answers(http: httpx.Client) -> None:
    until(lambda: "org/Model-A" in models(http), 60)
    question = {"model": "org/Model-A", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    answer = http.post("/v1/chat/completions", json=question)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]


def test_a_discovered_model_answers_only_callers_with_its_key(served: Any, core: client.CoreV1Api) -> None:
    pods = core.list_namespaced_pod(NAMESPACE, label_selector="app.kubernetes.io/name=model-org-model-a").items
    base = f"http://{pods[0].status.pod_ip}:{PORT}"
    assert httpx.get(f"{base}/health", trust_env=False, timeout=10).status_code == 200
    assert httpx.get(f"{base}/v1/models", trust_env=False, timeout=10).status_code == 401


def test_added_and_removed_models_are_followed(served: tuple[Engine, Path], http: httpx.Client) -> None:
    engine, log = served
    engine.up(_program([*MODELS]))
    until(lambda: "second" in models(http), 90, lambda: log.read_text()[-3000:])
    engine.up(_program(["org/Model-A"]))
    until(lambda: "second" not in models(http), 60)
    assert models(http) == {"org/Model-A", "absent"}
