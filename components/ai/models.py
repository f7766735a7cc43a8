"""Area of the models: model servers, each with its own API key for callers."""

from __future__ import annotations

from typing import Any

import pulumi

from components.ai import model_inputs, model_server, model_serving, serving_operators
from components.ai.model_serving import ModelServing
from components.ai.service import AiService
from components.config.models import Model
from components.config.platform import PlatformConfig
from components.pods import CustomizeArgs, customized
from components.security.api_key import ApiKey
from components.services.registry import FRONT
from components.stage import Stage

SIMULATOR = "inference-sim"
"""Name of the simulator's image."""


def inside(config: PlatformConfig) -> list[Model]:
    """Models that the platform serves, without those of external providers."""
    return [model for model in config.models if model.external is None]


class ModelsArea:
    """Model servers with their keys, and the operators that GPU models need."""

    servers: dict[str, AiService | ModelServing]
    """By the model's name."""
    keys: dict[str, ApiKey]
    """By the model's name."""

    def __init__(self, stage: Stage) -> None:
        config, self._stage = stage.config, stage
        served = any(model.serving for model in config.models)
        self._operators = serving_operators.make(stage.env, stage.reused, stage.options) if served else {}
        stage.parts |= self._operators
        self.keys = {model.name: self._key(model) for model in inside(config)}
        self.servers = {model.name: self._serve(model) for model in inside(config)}
        stage.parts |= {model_server.part_name(model): self.servers[model.name] for model in inside(config)}

    def _resource(self, model: Model) -> str:
        return f"{self._stage.env}-{model_server.part_name(model)}"

    def _key(self, model: Model) -> ApiKey:
        return ApiKey(
            f"{self._resource(model)}-key",
            {"namespace": self._stage.namespace, "secret_name": model_server.key_secret(model)},
            self._stage.options(),
        )

    def _pods(self, model: Model) -> CustomizeArgs:
        return customized(model.pod, f"models[{self._stage.config.models.index(model)}].pod")

    def _serve(self, model: Model) -> AiService | ModelServing:
        stage, name, key = self._stage, self._resource(model), self.keys[model.name]
        if model.serving is None:
            return AiService(
                name,
                model_server.simulator(model),
                {
                    "namespace": stage.namespace,
                    "image": stage.images[SIMULATOR],
                    "secrets": {model_server.KEY_FILE: (key.secret_name, "key")},
                    "versions": [key.version],
                    **self._pods(model),
                },
                stage.options(),
            )
        pool = next(p for p in stage.config.cluster.gpu_pools if p.name == model.serving.gpu_pool)
        args: Any = {
            **model_inputs.args_of(model, pool),
            "callers": [FRONT.name],
            "namespace": stage.namespace,
            "image": stage.resolver.reference(model_serving.IMAGES[model.engine]),
            "key_secret": key.secret_name,
            **self._pods(model),
        }
        return ModelServing(name, args, stage.options([*self._operators.values()]))

    @property
    def urls(self) -> dict[str, pulumi.Output[str]]:
        """Base URLs of the servers by model name."""
        return {name: server.url for name, server in self.servers.items()}
