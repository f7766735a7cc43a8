"""Simulated model server: llm-d's vLLM simulator, which has vLLM's API and needs no GPU."""

from __future__ import annotations

import re

from components import secret_files
from components.ai.service import ServiceIntent
from components.config.base import quantity
from components.config.models import Model
from components.services.registry import FRONT

PORT = 8000
KEY_FILE = "key"
"""Name of the file with the key that a model server requires from callers."""
KEY_FILE_VARIABLE = "MODEL_KEY_FILE"
"""Environment variable with the path of that file, for our vLLM image and the simulator."""


def part_name(model: Model) -> str:
    """Kubernetes name of a model's server: "org/Model-7b" -> "model-org-model-7b"."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.name.lower()).strip("-")
    return f"model-{slug}"[:50].rstrip("-")


def key_secret(model: Model) -> str:
    """Name of the Secret that holds the key of a model's server in its entry "key"."""
    return f"{part_name(model)}-key"


def hosts(model: Model, namespace: str) -> tuple[str, ...]:
    """Host names of a model's server for callers."""
    if model.serving is None:
        return (f"{part_name(model)}.{namespace}",)
    # The status of a KServe InferenceService, from which the Router learns the server, has the full name.
    short = f"{part_name(model)}-predictor.{namespace}"
    return (short, f"{short}.svc.cluster.local")


def simulator(model: Model) -> ServiceIntent:
    """The intent of a simulated model server."""
    arguments = [
        f"--model={model.name}",
        f"--port={PORT}",
        f"--max-model-len={model.context_tokens}",
        "--mode=random",
        f"--time-to-first-token={model.first_token_milliseconds}ms",
        f"--inter-token-latency={model.token_milliseconds}ms",
    ]
    return ServiceIntent(
        name=part_name(model),
        port=PORT,
        callers=(FRONT.name,),
        replicas=model.replicas,
        resources=model.resources,
        ready_path="/health",
        live_path="/health",
        arguments=tuple(arguments),
        # Without the pod's memory limit, Go's garbage collector runs too late.
        environment={
            "GOMEMLIMIT": str(int(quantity(model.resources.memory) * 8 // 10)),
            KEY_FILE_VARIABLE: secret_files.path(KEY_FILE),
        },
    )
