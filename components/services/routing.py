"""The Router's table of routes, which follows from the configured models, and what else only the Router receives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pulumi

from components.ai.model_server import hosts, key_secret, part_name
from components.ai.service import AiServiceArgs
from components.config.models import Model
from components.config.platform import PlatformConfig
from components.config.routes import Route, RouteTarget
from components.config.routing import Routing
from components.services import embeddings as vectors
from components.services import guardrails as guards
from components.services.making import asks_for_keys, url

SERVED = (("serving.kserve.io", "inferenceservices"),)
"""What the Router watches to find the models that KServe serves in its namespace."""
DISCOVER = {"SERVICE_DISCOVER": "true"}
INSIDE = "inside"
"""Where the Router looks for what it shows servers of the platform."""


def extras(
    config: PlatformConfig,
    namespace: pulumi.Input[str],
    image: pulumi.Input[str],
    urls: Mapping[str, pulumi.Input[str]],
    key: pulumi.Output[str],
) -> AiServiceArgs:
    """What only the Router receives; `urls` are those of the servers of models, `key` is the operator's."""
    models = {model.name: model for model in config.models}
    outside = {model.name: model.external.url for model in config.models if model.external}
    # Only what is made of the key is in the table, and that tells nothing of it.
    known = pulumi.Output.unsecret(key) if asks_for_keys(config) else ""
    table = pulumi.Output.all(pulumi.Output.all(**urls), known).apply(
        lambda found: route_table(
            {name: (models[name], place) for name, place in (found[0] | outside).items()},
            config.routes,
            url(config, vectors.RECORD.name),
            found[1],
            guards.RECORD.name in config.around.records,
        )
    )
    return {
        "namespace": namespace,
        "image": image,
        "files": {"routes.json": table},
        "environment": DISCOVER if served(config) else {},
        "credentials": credentials(config.models, config.cluster.namespace),
        "shown": shown(url(config, vectors.RECORD.name)),
        "outlets": outlets(config.models),
    }


def served(config: PlatformConfig) -> bool:
    """Whether KServe serves models."""
    return any(model.serving for model in config.models)


def _treatment(routing: Routing, guarded: bool) -> dict[str, Any]:
    """What the router's own table calls the fields of `routing`."""
    cache = routing.cache
    return {
        **({"guardrails": routing.guardrails.value} if guarded else {}),
        "fallbacks": list(routing.fallbacks),
        "attempts": routing.attempts,
        "first_token_seconds": routing.first_token_seconds,
        "hedge_seconds": routing.hedge_milliseconds / 1000,
        "cache": {
            "ttl_seconds": cache.ttl_seconds,
            "any_temperature": cache.any_temperature,
            "similarity": cache.similarity,
        }
        if cache
        else None,
    }


def outlets(models: Iterable[Model]) -> list[int]:
    """Ports at which the Router reaches providers outside."""
    return sorted({model.external.port for model in models if model.external is not None})


def credentials(models: Iterable[Model], namespace: str) -> dict[str, tuple[str, str]]:
    """What the Router shows servers of models: its file of each, and the Secret and entry of that file.

    A provider's lies below the host that it is for, that of a server in this namespace is named after its host.
    """
    found: dict[str, tuple[str, str]] = {}
    for model in models:
        if (outside := model.external) is not None:
            found[f"{outside.host}/{part_name(model)}"] = (outside.secret_name, outside.secret_key)
        else:
            found |= {f"{INSIDE}/{host}": (key_secret(model), "key") for host in hosts(model, namespace)}
    return found


def shown(embeddings: str) -> dict[str, str]:
    """What the Router shows Embeddings, whose base URL is given: its file, and the audience of the token in it."""
    host = urlsplit(embeddings).hostname
    return {f"{INSIDE}/{host}": vectors.RECORD.name} if host else {}


def _server(model: Model, url: str) -> dict[str, Any]:
    """Where a model is, as a target of the Router."""
    outside = model.external
    if outside is None:
        return {"name": model.name, "upstream": url, "upstream_model": model.name}
    return {
        "name": model.name,
        "upstream": outside.url,
        "upstream_model": outside.model,
        "api": outside.api.value,
        "credential": part_name(model),
        "input_price": outside.input_price,
        "output_price": outside.output_price,
    }


def route_table(
    models: Mapping[str, tuple[Model, str]],
    routes: Iterable[Route] = (),
    embeddings: str = "",
    key: str = "",
    guarded: bool = False,
) -> str:
    """The JSON that the router reads; `models` maps a name to the model and its server's base URL.

    `embeddings` is where the Embeddings service is; `guarded`: there is Guardrails to ask. With `key`, callers have to
    show one: this one, the operator's, or one that the User service tells of.
    """
    table = [
        {
            "model": name,
            **({"targets": [_server(model, url)]} if model.external else {"upstream": url}),
            "timeout_seconds": model.timeout_seconds,
            "owned_by": "external" if model.external else model.engine.value,
            **_treatment(model.routing, guarded),
        }
        for name, (model, url) in sorted(models.items())
    ]
    if embeddings:
        table.append({"model": vectors.MODEL, "upstream": embeddings, "owned_by": "embeddings"})
    content: dict[str, Any] = {"routes": [*table, *(_shared(route, models, guarded) for route in routes)]}
    if key:
        content["tenants"] = [
            {"id": "default", "keys": [hashlib.sha256(key.encode()).hexdigest()], "operator": True},
        ]
    return json.dumps(content, indent=2)


def _prices(target: RouteTarget, model: Model) -> dict[str, float]:
    """Of a route's target; where it names none, those of a model outside hold."""
    named = {"input_price": target.input_price, "output_price": target.output_price}
    return {name: price for name, price in named.items() if price or model.external is None}


def _shared(route: Route, models: Mapping[str, tuple[Model, str]], guarded: bool) -> dict[str, Any]:
    """A name under which several models answer."""
    canary = route.canary
    trial = (
        {
            "target": canary.model,
            "steps": list(canary.steps),
            "requests_per_step": canary.requests_per_step,
            "max_error_ratio": canary.max_error_ratio,
            "max_latency_ratio": canary.max_latency_ratio,
        }
        if canary
        else None
    )
    return {
        "model": route.name,
        "targets": [
            {
                **_server(*models[target.model]),
                "weight": target.weight,
                **_prices(target, models[target.model][0]),
            }
            for target in route.targets
        ],
        "strategy": route.strategy.value,
        "sticky": route.sticky,
        "canary": trial,
        "timeout_seconds": max(models[target.model][0].timeout_seconds for target in route.targets),
        **_treatment(route.routing, guarded),
    }
