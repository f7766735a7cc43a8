"""The Router's table of routes, derived from the configured models, and other inputs of the Router alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pulumi

from components.ai.model_server import hosts, key_secret, part_name
from components.ai.service import AiServiceArgs
from components.base import gathered
from components.config.models import Model
from components.config.platform import PlatformConfig
from components.config.routes import Route, RouteTarget
from components.config.routing import Routing
from components.services import embeddings as vectors
from components.services import guardrails as guards
from components.services.making import asks_for_keys, url

SERVED = (("serving.kserve.io", "inferenceservices"),)
"""(API group, resource) pairs that the Router watches, to find models that KServe serves in its namespace."""
DISCOVER = {"SERVICE_DISCOVER": "true"}
INSIDE = "inside"
"""Folder of the Router's credentials for servers inside the platform."""


def extras(
    config: PlatformConfig,
    namespace: pulumi.Input[str],
    image: pulumi.Input[str],
    urls: Mapping[str, pulumi.Input[str]],
    key: pulumi.Output[str],
) -> AiServiceArgs:
    """Arguments of the Router alone. `urls`: base URLs of model servers by model; `key`: the installation key."""
    models = {model.name: model for model in config.models}
    outside = {model.name: model.external.url for model in config.models if model.external}
    # The table contains a hash of the key only, which does not reveal the key.
    known = pulumi.Output.unsecret(key) if asks_for_keys(config) else ""
    table = pulumi.Output.all(gathered(urls), known).apply(
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
    """Whether KServe serves any model."""
    return any(model.serving for model in config.models)


def _treatment(routing: Routing, guarded: bool) -> dict[str, Any]:
    """The fields of `routing` with their names in the Router's table."""
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
    """TCP ports of external providers that the Router connects to."""
    return sorted({model.external.port for model in models if model.external is not None})


def credentials(models: Iterable[Model], namespace: str) -> dict[str, tuple[str, str]]:
    """The Router's credentials for model servers: the Secret and entry by file path.

    A provider's credential is in a folder named after the provider's host, so that no other host receives it. The
    credential of a server in this namespace is named after the server's host.
    """
    found: dict[str, tuple[str, str]] = {}
    for model in models:
        if (outside := model.external) is not None:
            found[f"{outside.host}/{part_name(model)}"] = (outside.secret_name, outside.secret_key)
        else:
            found |= {f"{INSIDE}/{host}": (key_secret(model), "key") for host in hosts(model, namespace)}
    return found


def shown(embeddings: str) -> dict[str, str]:
    """The Router's token for Embeddings: the token's audience by file path. `embeddings` is its base URL."""
    host = urlsplit(embeddings).hostname
    return {f"{INSIDE}/{host}": vectors.RECORD.name} if host else {}


def _server(model: Model, url: str) -> dict[str, Any]:
    """A model's server as a target in the Router's table."""
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
    """The Router's table of routes as JSON. `models`: the model and its server's base URL by model name.

    `embeddings`: base URL of the Embeddings service. `guarded`: whether Guardrails is enabled. `key`: the installation
    key; with it, callers need an API key: this one, or one that the User service has issued.
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
    """Prices of a route's target; the default are the prices of its external model."""
    named = {"input_price": target.input_price, "output_price": target.output_price}
    return {name: price for name, price in named.items() if price or model.external is None}


def _shared(route: Route, models: Mapping[str, tuple[Model, str]], guarded: bool) -> dict[str, Any]:
    """A route over several models, as an entry of the table."""
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
