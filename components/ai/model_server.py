"""A server for one model. Here: llm-d's vLLM simulator, which speaks vLLM's API without a GPU."""

from __future__ import annotations

import re

from components.ai.service import ServiceIntent
from components.config.base import quantity
from components.config.models import Model
from components.services.registry import FRONT

PORT = 8000
KEY_VARIABLE = "VLLM_API_KEY"
"""Where vLLM, and its simulator, take the key that callers have to show."""


def part_name(model: Model) -> str:
    """A Kubernetes name for a model: "org/Model-7b" -> "model-org-model-7b"."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.name.lower()).strip("-")
    return f"model-{slug}"[:50].rstrip("-")


def key_secret(model: Model) -> str:
    """Name of the Secret with the key of a model's server, under "key"."""
    return f"{part_name(model)}-key"


def hosts(model: Model, namespace: str) -> tuple[str, ...]:
    """Under which names callers reach a model's server."""
    if model.serving is None:
        return (f"{part_name(model)}.{namespace}",)
    # KServe names the server in full in its InferenceService's status, where the Router finds it.
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
        # Go collects garbage in time only where it knows of the pod's limit.
        environment={"GOMEMLIMIT": str(int(quantity(model.resources.memory) * 8 // 10))},
    )
