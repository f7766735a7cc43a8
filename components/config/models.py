"""Which models there are, and what serves each."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from components.config.base import Change, ModelName, Resources, Section, setting
from components.config.external import External
from components.config.problems import violation
from components.config.routing import Routing
from components.config.serving import Serving


class ModelEngine(StrEnum):
    """What serves a model."""

    SIMULATOR = "simulator"
    """llm-d's vLLM simulator: the API and the metrics without a model or a GPU."""
    VLLM = "vllm"
    """vLLM on GPUs, through KServe."""
    TGI = "tgi"
    """Hugging Face's Text Generation Inference on GPUs, through KServe."""


class Model(Section):
    """One model: what serves it, and how clients name it."""

    name: ModelName = setting(Change.DISRUPTIVE, "Name that clients use")
    engine: ModelEngine = setting(Change.DISRUPTIVE, "What serves it", default=ModelEngine.SIMULATOR, strict=False)
    replicas: int = setting(Change.SAFE, "Servers of this model", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="128Mi"))
    context_tokens: int = setting(Change.DISRUPTIVE, "Longest context in tokens", default=8192, ge=256, le=2_000_000)
    timeout_seconds: int = setting(Change.SAFE, "Limit of one answer", default=120, ge=1, le=3600)
    routing: Routing = setting(Change.SAFE, "Retries, time limits, fallbacks, cached answers", default=Routing())
    external: External | None = setting(Change.DISRUPTIVE, "A provider outside that serves it", default=None)
    serving: Serving | None = setting(Change.SAFE, "Weights, GPUs, scaling; else: simulator anywhere", default=None)
    first_token_milliseconds: int = setting(
        Change.SAFE, "Simulated time to the first token", default=0, ge=0, le=60_000
    )
    token_milliseconds: int = setting(Change.SAFE, "Simulated time between tokens", default=0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.external is not None and (self.serving is not None or self.engine is not ModelEngine.SIMULATOR):
            raise violation("a model is served outside or here", "remove external, or engine and serving")
        # The simulator can be served too: a rehearsal of scheduling and routing without weights.
        if self.engine is not ModelEngine.SIMULATOR and self.serving is None:
            fix = "add serving with weights and gpuPool, or set engine: simulator"
            raise violation(f"engine {self.engine.value} needs serving", fix)
        return self
