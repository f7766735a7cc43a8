"""The models section of the configuration: each model and its inference server."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from components.config.base import Change, ModelName, Resources, Section, setting
from components.config.external import External
from components.config.pod import Pod, pod_setting
from components.config.problems import violation
from components.config.routing import Routing
from components.config.serving import Serving


class ModelEngine(StrEnum):
    """Inference server of a model."""

    SIMULATOR = "simulator"
    """llm-d's vLLM simulator: vLLM's API and metrics, without a model or a GPU."""
    VLLM = "vllm"
    """vLLM on GPUs, through KServe."""
    TGI = "tgi"
    """Hugging Face's Text Generation Inference on GPUs, through KServe."""


class Model(Section):
    """One model: its name for clients, and its inference server."""

    name: ModelName = setting(Change.DISRUPTIVE, "Model name in clients' requests")
    engine: ModelEngine = setting(
        Change.DISRUPTIVE, "Inference server: simulator, vllm or tgi", default=ModelEngine.SIMULATOR, strict=False
    )
    replicas: int = setting(Change.SAFE, "Number of inference servers", default=1, ge=1, le=100)
    resources: Resources = setting(
        Change.SAFE, "Resources per inference server", default=Resources(cpu="50m", memory="128Mi")
    )
    pod: Pod = pod_setting()
    context_tokens: int = setting(Change.DISRUPTIVE, "Longest context in tokens", default=8192, ge=256, le=2_000_000)
    timeout_seconds: int = setting(Change.SAFE, "Longest duration of an answer", default=120, ge=1, le=3600)
    routing: Routing = setting(Change.SAFE, "Retries, timeouts, fallbacks, answer cache", default=Routing())
    external: External | None = setting(Change.DISRUPTIVE, "External provider of the model", default=None)
    serving: Serving | None = setting(
        Change.SAFE, "Weights, GPUs and scaling; without this section the simulator runs on any node", default=None
    )
    first_token_milliseconds: int = setting(
        Change.SAFE, "Simulator: time to the first token", default=0, ge=0, le=60_000
    )
    token_milliseconds: int = setting(Change.SAFE, "Simulator: time between tokens", default=0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.external is not None and (self.serving is not None or self.engine is not ModelEngine.SIMULATOR):
            raise violation(
                "a model is served by an external provider or by the platform, not both",
                "remove external, or engine and serving",
            )
        if self.external is not None and self.pod != Pod():
            raise violation("pod belongs to a model that the platform serves", "remove pod, or external")
        # The simulator may have a serving section, too: it rehearses scheduling and routing without weights.
        if self.engine is not ModelEngine.SIMULATOR and self.serving is None:
            fix = "add serving with weights and gpuPool, or set engine: simulator"
            raise violation(f"engine {self.engine.value} needs serving", fix)
        return self
