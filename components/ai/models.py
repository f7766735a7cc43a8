"""The model servers of an environment, each with a key of its own that callers have to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pulumi

from components.ai import model_server
from components.ai.model_serving import IMAGES, ModelServing, ModelServingArgs
from components.ai.service import AiService
from components.config.models import Model, ModelEngine
from components.config.platform import PlatformConfig
from components.security.api_key import ApiKey

PROMETHEUS = "http://prometheus.observability:9090"
ModelServer = AiService | ModelServing
Options = Callable[[list[pulumi.Resource]], pulumi.ResourceOptions]
"""Of a part that comes after others."""


def inside(config: PlatformConfig) -> list[Model]:
    """The models that are served here."""
    return [model for model in config.models if model.external is None]


def keys(config: PlatformConfig, namespace: pulumi.Input[str], options: Options) -> dict[str, ApiKey]:
    """The key of each server, by the model's name."""
    return {
        model.name: ApiKey(
            f"{_resource(config, model)}-key",
            {"namespace": namespace, "secret_name": model_server.key_secret(model)},
            options([]),
        )
        for model in inside(config)
    }


def _resource(config: PlatformConfig, model: Model) -> str:
    return f"{config.environment.value}-{model_server.part_name(model)}"


def make(
    config: PlatformConfig,
    namespace: pulumi.Input[str],
    shown: Mapping[str, ApiKey],
    image: Callable[[str], pulumi.Input[str]],
    operators: Sequence[pulumi.Resource],
    options: Options,
) -> list[tuple[Model, ModelServer]]:
    """A server for each model that is served here; `shown` are their keys, `operators` what KServe's models need."""
    made: list[tuple[Model, ModelServer]] = []
    for model in inside(config):
        name, key = _resource(config, model), shown[model.name]
        if (serving := model.serving) is None:
            server: ModelServer = AiService(
                name,
                model_server.simulator(model),
                {
                    "namespace": namespace,
                    "image": image(IMAGES[ModelEngine.SIMULATOR]),
                    "secrets": {model_server.KEY_VARIABLE: (key.secret_name, "key")},
                    "versions": [key.version],
                },
                options([]),
            )
        else:
            pool = next(p for p in config.cluster.gpu_pools if p.name == serving.gpu_pool)
            args: ModelServingArgs = {
                "namespace": namespace,
                "image": image(IMAGES[model.engine]),
                "key_secret": key.secret_name,
                "prometheus": PROMETHEUS,
            }
            server = ModelServing(name, model, serving, pool, args, options([*operators]))
        made.append((model, server))
    return made
