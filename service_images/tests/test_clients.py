"""A developer's first hour: the usual clients, in pinned versions, against the Router and the default model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from filelock import FileLock
from pydantic import SecretStr

from local import paths
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.issuer import Cluster
from service_images.ports import free_port
from service_images.router.tests.conftest import Running
from service_images.serving import served

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit" / "src"))

from kit import migrate
from kit.settings import ServiceSettings
from router import credentials

pytestmark = pytest.mark.contract
CLIENTS = Path(__file__).parent / "clients"
SERVICES = Path(__file__).resolve().parents[1]
FLOWS = (
    "openai_chat", "openai_responses", "openai_errors", "anthropic_messages", "langchain",
    "instructor_models", "openai_agents", "litellm_calls", "huggingface", "langfuse_wrapper",
)  # fmt: skip
OWN_FLOW = "llama_index"
SERVICE_FLOWS = {
    "langchain_embeddings": "embeddings",
    "huggingface_embeddings": "embeddings",
    "openai_vector_stores": "retriever",
    "langfuse_prompts": "prompt",
}
"""Flows against services other than the Router."""
KEY = "cf-any"
MODEL_KEY = "key-of-the-model-server"
SHOWN = {"authorization": f"Bearer {MODEL_KEY}"}
EXPECTED_S = 300
"""Seconds for one flow, including the imports of its client, on a busy machine."""


def _environment(lock: Path) -> Path:
    """Interpreter of an environment with the packages of a lock file; created once per content."""
    locks = [CLIENTS / "uv.lock", lock]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in locks)).hexdigest()[:16]
    folder = paths.cache() / f"clients-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    program = folder / "bin" / "python"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            venv.create(folder, with_pip=True, clear=True)
            hashed = ["--require-hashes", "--no-deps", "--quiet", "-r"]
            subprocess.run([program, "-m", "pip", "install", *hashed, locks[0]], check=True)
            command = [folder / "bin" / "uv", "pip", "install", "--python", program, *hashed, locks[1]]
            subprocess.run(command, check=True)
            (folder / "complete").touch()
    return program


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the environment that most clients share."""
    return _environment(CLIENTS / "requirements.lock")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The default model's server, as in the image."""
    program, port = builder.resolve(ToolName.INFERENCE_SIM), free_port()
    arguments = ["--model=demo", "--served-model-name=demo", f"--port={port}", "--max-model-len=8192", "--mode=random"]
    url = f"http://127.0.0.1:{port}"
    key = tmp_path_factory.mktemp("secrets") / "key"
    key.write_text(MODEL_KEY)
    with served([program, *arguments], {"MODEL_KEY_FILE": str(key)}, f"{url}/health", starts_s=30):
        yield url


@pytest.fixture(scope="module")
def router(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Router in front of it, which has the simulator's key mounted."""
    mounted = tmp_path_factory.mktemp("credentials")
    (mounted / credentials.INSIDE).mkdir()
    (mounted / credentials.INSIDE / "127.0.0.1").write_text(MODEL_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "FOLDER", mounted)
        yield from _router(simulator)


def _router(simulator: str) -> Iterator[Running]:
    running = Running({"routes": [{"model": "demo", "upstream": simulator, "timeout_seconds": 60}]})
    yield running
    running.stop()


def _service(name: str, port: int, folder: Path, **settings: Any) -> AbstractContextManager[None]:
    """A service in a separate process, started as in its image."""
    own = {f"SERVICE_{key.upper()}": _plain(value) for key, value in settings.items()}
    own |= {"SERVICE_HOST": "127.0.0.1", "SERVICE_PORT": str(port), "SERVICE_OBJECTS_ENDPOINT": f"file://{folder}"}
    own["PYTHONPATH"] = os.pathsep.join(str(SERVICES / part / "src") for part in ("kit", name))
    return served([sys.executable, "-m", name], own, f"http://127.0.0.1:{port}/readyz", starts_s=120)


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@pytest.fixture(scope="module")
def services(model_folder: Path, postgres_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Addresses of Embeddings, Retriever and Prompt, connected as in an environment."""
    ports = {name: free_port() for name in ("embeddings", "retriever", "prompt")}
    rpc, folder = free_port(), tmp_path_factory.mktemp("objects")
    databases = {name: postgres_server.make_database(name) for name in ("retriever", "prompt")}
    postgres_server.make_collection()
    postgres_server.index_collection()
    for name, given in databases.items():
        sys.path.insert(0, str(SERVICES / name / "src"))
        migrate.migrate(name, ServiceSettings(name=name, **given).database(pooled=False))
    retriever = {**databases["retriever"], "embeddings": f"127.0.0.1:{rpc}"}
    with (
        _service("embeddings", ports["embeddings"], folder, model_folder=model_folder, threads=1, rpc_port=rpc),
        _service("retriever", ports["retriever"], folder, **retriever),
        _service("prompt", ports["prompt"], folder, rpc_port=free_port(), **databases["prompt"]),
    ):
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}


@pytest.mark.parametrize("flow", FLOWS)
def test_a_clients_usual_flow(flow: str, python: Path, router: Running) -> None:
    _run(flow, python, router.url, "demo", KEY)


def test_the_usual_flow_of_a_client_that_has_an_environment_of_its_own(router: Running) -> None:
    _run(OWN_FLOW, _environment(CLIENTS / OWN_FLOW / "requirements.lock"), router.url, "demo", KEY)


@pytest.mark.parametrize("flow", SERVICE_FLOWS)
def test_a_clients_usual_flow_with_a_service(
    flow: str, python: Path, services: dict[str, str], cluster: Cluster
) -> None:
    service = SERVICE_FLOWS[flow]
    # Embeddings admits the Router, which sends its own token instead of a tenant's key.
    key = cluster.token("router", service) if service == "embeddings" else KEY
    _run(flow, python, services[service], "all-minilm-l6-v2", key)


def _run(flow: str, python: Path, url: str, model: str, key: str) -> None:
    command = [python, CLIENTS / "flows.py", flow, url, model, key]
    # Without a proxy and without the developer's own configuration.
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    result = subprocess.run(command, env=own, capture_output=True, text=True, timeout=EXPECTED_S)
    assert result.returncode == 0, result.stderr[-4000:]


def test_every_flow_is_run() -> None:
    source = (CLIENTS / "flows.py").read_text()
    flows = (*FLOWS, OWN_FLOW, *SERVICE_FLOWS)
    assert source.count("@flow\n") == len(flows) and all(f"def {flow}(" in source for flow in flows)


@pytest.mark.parametrize(
    "schema",
    [
        {"title": "T", "anyOf": [{"type": "null"}, {"$ref": "#/$defs/A"}], "$defs": {"A": {"const": 3}}},
        {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}$"},
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": "integer", "multipleOf": 5}},
        {"type": "array", "minItems": 2, "uniqueItems": True, "items": {"enum": ["a", "b"]}},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "object", "required": ["z"], "additionalProperties": {"type": "boolean"}, "minProperties": 3},
        {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}], "type": "object"},
        {"type": "string", "minLength": 40, "maxLength": 45},
        {"type": ["null", "integer"], "minimum": 7},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2, "items": False},
    ],
)
def test_the_default_model_answers_according_to_a_schema(schema: dict[str, object], simulator: str) -> None:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    }
    answer = httpx.post(f"{simulator}/v1/chat/completions", json=body, headers=SHOWN, trust_env=False).json()
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), schema)


def test_the_simulator_shows_its_metrics_and_nothing_that_changes_it(simulator: str) -> None:
    assert "vllm:num_requests_waiting" in httpx.get(f"{simulator}/metrics", trust_env=False).text
    for path in ("/admin/config", "/fake_metrics", "/sleep"):
        assert httpx.post(f"{simulator}{path}", json={}, headers=SHOWN, trust_env=False).status_code == 404


@pytest.mark.parametrize("shown", [None, "", "Bearer", f"Bearer {MODEL_KEY}x", f"Basic {MODEL_KEY}", MODEL_KEY])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/chat/completions"), ("POST", "/v1/responses"), ("POST", "/v1/completions"), ("POST", "/tokenize"),
     ("GET", "/v1/models"), ("GET", "/health/../v1/models"), ("POST", "/health"), ("GET", "/other")],
)  # fmt: skip
def test_a_model_server_refuses_requests_without_its_key(
    simulator: str, shown: str | None, method: str, path: str
) -> None:
    headers = {} if shown is None else {"authorization": shown}
    answer = httpx.request(method, f"{simulator}{path}", json={"model": "demo"}, headers=headers, trust_env=False)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert MODEL_KEY not in answer.text


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_model_server_without_a_key_does_not_start(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    command = [str(builder.resolve(ToolName.INFERENCE_SIM)), "--model=demo", f"--port={free_port()}", "--mode=random"]
    own = {"MODEL_KEY_FILE": str(tmp_path / "key")}
    ended = subprocess.run(command, env=own, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1 and "MODEL_KEY_FILE has no key" in ended.stderr
