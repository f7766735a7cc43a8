"""A server for one model. Here: llm-d's vLLM simulator, which speaks vLLM's API without a GPU."""

from __future__ import annotations

import re

from components.ai.service import ServiceIntent
from components.config.base import quantity
from components.config.models import Model

PORT = 8000


def part_name(model: Model) -> str:
    """A Kubernetes name for a model: "org/Model-7b" -> "model-org-model-7b"."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.name.lower()).strip("-")
    return f"model-{slug}"[:50].rstrip("-")


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
        callers=("router",),
        replicas=model.replicas,
        resources=model.resources,
        ready_path="/health",
        live_path="/health",
        arguments=tuple(arguments),
        # Go collects garbage in time only where it knows of the pod's limit.
        environment={"GOMEMLIMIT": str(int(quantity(model.resources.memory) * 8 // 10))},
    )
