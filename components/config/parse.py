"""Validates a configuration and reports all mistakes together, including conflicts between sections."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from components.cluster.gpu_models import INSTANCES
from components.config import custom_checks, grafana_checks, login_checks, mesh_checks, opa_checks, profiles
from components.config.base import Section, first_duplicate
from components.config.cluster import Cluster, ClusterKind
from components.config.custom import Service
from components.config.eks import Capacity, Eks, Nat
from components.config.gateway import GatewayEngine
from components.config.images import ImageSource
from components.config.observability import LogLevel
from components.config.platform import Environment, PlatformConfig
from components.config.problems import ConfigError, Conflict, Location, Problem, describe, entry_of, format_location


def _cross_checks(config: PlatformConfig) -> Iterator[Conflict]:
    if duplicate := first_duplicate(tuple(m.name for m in config.models)):
        yield Conflict(("models",), duplicate, "model names must be unique", f'rename or remove one "{duplicate}"')
    local = config.environment is Environment.LOCAL
    possible = (ClusterKind.LOCAL, ClusterKind.EXISTING) if local else (ClusterKind.EKS, ClusterKind.EXISTING)
    if config.cluster.kind not in possible:
        text = f"must be {' or '.join(possible)} in {config.environment}"
        fix = f"set kind: {possible[0]}"
        yield Conflict(("cluster", "kind"), config.cluster.kind.value, text, fix, ("environment",))
    built = config.images.source is ImageSource.LOCAL_BUILD
    if built and config.cluster.kind is ClusterKind.EXISTING and local and not config.images.registry:
        text = "required with local-build for an existing cluster, whose nodes pull images from the registry"
        fix = 'set a registry that this machine and the cluster reach, such as "localhost:5001/cogniforge"'
        yield Conflict(("images", "registry"), "(missing)", text, fix, ("cluster.kind", "environment"))
    if built and config.cluster.kind is ClusterKind.LOCAL and config.images.registry:
        text = "must be empty with local-build for the local node, which has its own registry"
        yield Conflict(("images", "registry"), config.images.registry, text, "remove it", ("cluster.kind",))
    if not local and built:
        text = f"local-build images exist on one machine only, not in {config.environment}"
        fix = "set source: registry and a registry"
        yield Conflict(("images", "source"), "local-build", text, fix, ("environment",))
    if local and config.gateway.port < 1024:
        text = "at least 1024 in the local environment"
        yield Conflict(("gateway", "port"), config.gateway.port, text, "set it to 8443", ("environment",))
    if config.environment is Environment.PROD:
        yield from _production_checks(config)
    if config.cluster.eks:
        yield from _gpu_checks(config.cluster, config.cluster.eks)
    yield from mesh_checks.conflicts(config)
    if local and config.gateway.engine is not GatewayEngine.ENVOY:
        text = "must be envoy in the local environment: Kong is not available as a package"
        yield Conflict(("gateway", "engine"), config.gateway.engine.value, text, "remove engine", ("environment",))
    yield from _managed_checks(config)
    yield from _seal_checks(config)
    yield from _login_checks(config)
    yield from login_checks.conflicts(config)
    yield from opa_checks.conflicts(config)
    yield from grafana_checks.conflicts(config)
    yield from _service_checks(config)
    yield from _serving_checks(config)
    yield from _routing_checks(config)
    timeout_s = config.gateway.request_timeout_seconds
    for index, model in enumerate(config.models):
        if model.timeout_seconds > timeout_s:
            location = ("models", index, "timeoutSeconds")
            text = f"at most gateway.requestTimeoutSeconds ({timeout_s})"
            fix = "lower it, or raise the gateway's timeout"
            yield Conflict(location, model.timeout_seconds, text, fix, ("gateway.requestTimeoutSeconds",))


def _managed_checks(config: PlatformConfig) -> Iterator[Conflict]:
    """Managed AWS services against the kind of cluster: only EKS pods can reach them."""
    data = config.data
    asked = (
        ("postgres", "rds", data.postgres and data.postgres.rds),
        ("kafka", "msk", data.kafka and data.kafka.msk),
        ("objectStore", "s3", data.object_store and data.object_store.s3),
    )
    for part, field, chosen in asked:
        if chosen and config.cluster.eks is None:
            text = "allowed with cluster.kind: eks only, whose pods can reach the managed service"
            fix = f"remove {field}: the part then runs in pods"
            yield Conflict(("data", part, field), "(an object)", text, fix, ("cluster.kind",))


def _seal_checks(config: PlatformConfig) -> Iterator[Conflict]:
    """What unseals the secret store: KMS on AWS, a key file elsewhere, which several servers have to share."""
    store = config.security.secret_store
    if store is None:
        return
    location = ("security", "secretStore", "sealSecretName")
    if config.cluster.eks and store.seal_secret_name:
        text = "none with cluster.kind: eks: a key of AWS KMS unseals the store"
        yield Conflict(location, store.seal_secret_name, text, "remove sealSecretName", ("cluster.kind",))
    if not config.cluster.eks and store.replicas > 1 and not store.seal_secret_name:
        text = f"required outside AWS with {store.replicas} servers: all of them are unsealed by the same key"
        fix = "make a Secret whose entry `key` holds 32 random bytes and name it, or set replicas to 1"
        yield Conflict(location, "(missing)", text, fix, ("cluster.kind", "security.secretStore.replicas"))


def _login_checks(config: PlatformConfig) -> Iterator[Conflict]:
    """What Keycloak needs: a database, and User, which gives keys to people who have logged in."""
    if config.security.keycloak is None:
        return
    for path, why in (
        ("data.postgres", "keeps its users in PostgreSQL"),
        ("services.user", "only proves who people are: User gives them keys"),
    ):
        if not _there(config, path):
            fix = f"add {path}, or remove security.keycloak"
            yield Conflict(("security", "keycloak"), "(an object)", f"keycloak {why}", fix, (path.split(".")[0],))
    host = config.gateway.hosts[0]
    if host.startswith("*"):
        text = "no wildcard in the first host name with security.keycloak: it is in the address of every login"
        yield Conflict(
            ("gateway", "hosts", 0), host, text, 'put a name such as "api.example.com" before it', ("security",)
        )


def _service_checks(config: PlatformConfig) -> Iterator[Conflict]:
    """Services against the parts that they need."""
    around, services = config.around, config.services.there
    for name in services:
        record, location = around.records[name], config.services.location(name)
        needs = {
            **({"data.postgres": "keeps its tables in PostgreSQL"} if record.database else {}),
            **({"data.objectStore": "keeps documents in buckets"} if record.buckets else {}),
            **(record.needs or {}),
        }
        for path, why in needs.items():
            if not _there(config, path):
                fix = f"add {path}, or remove {format_location(location)}"
                yield Conflict(location, "(an object)", f"{name} {why}", fix, (path.split(".")[0],))
    for name, section in services.items():
        yield from around.records[name].conflicts(section, around)
    yield from custom_checks.conflicts(config)


def _there(config: PlatformConfig, path: str) -> bool:
    """Whether the configuration has a section at this path of the stack file."""
    found: object = config
    for part in path.split("."):
        fields = type(found).model_fields if isinstance(found, Section) else {}
        found = next((getattr(found, name) for name, field in fields.items() if part in (name, field.alias)), None)
    return found is not None


def _routing_checks(config: PlatformConfig) -> Iterator[Conflict]:
    """Fallbacks and routes against the configured models."""
    models = [model.name for model in config.models]
    names = [*models, *(route.name for route in config.routes)]
    duplicate = first_duplicate(tuple(names))
    if duplicate and models.count(duplicate) < 2:  # duplicate model names are reported above
        text = "names of routes must be unique, and must differ from names of models"
        yield Conflict(("routes",), duplicate, text, f'rename the route "{duplicate}"', ("models",))
    for kind, entries in (("models", config.models), ("routes", config.routes)):
        for index, entry in enumerate(entries):
            for place, fallback in enumerate(entry.routing.fallbacks):
                if fallback not in names or fallback == entry.name:
                    location = (kind, index, "routing", "fallbacks", place)
                    others = ", ".join(name for name in names if name != entry.name)
                    text = f"another model or route: {others or 'there are none'}"
                    yield Conflict(location, fallback, text, "name one of them, or remove it", ("models", "routes"))
    for index, route in enumerate(config.routes):
        for place, target in enumerate(route.targets):
            if target.model not in models:
                location = ("routes", index, "targets", place, "model")
                yield Conflict(location, target.model, f"one of models: {', '.join(models)}", "name one", ("models",))
    for index, model in enumerate(config.models):
        first_s = model.routing.first_token_seconds
        if first_s > model.timeout_seconds:
            location = ("models", index, "routing", "firstTokenSeconds")
            text = f"at most the model's timeoutSeconds ({model.timeout_seconds})"
            yield Conflict(location, first_s, text, "lower it, or raise timeoutSeconds", ())


def _gpu_checks(cluster: Cluster, eks: Eks) -> Iterator[Conflict]:
    """GPU pools against the AWS region and the account's quota."""
    needed = 0
    for index, pool in enumerate(cluster.gpu_pools):
        location = ("cluster", "gpuPools", index, "instanceType")
        if pool.instance is None:
            fitting = ", ".join(i.name for i in INSTANCES.values() if i.gpu is pool.gpu)
            text = "an EC2 instance type is required on eks"
            fix = f"use one of {fitting}" if fitting else f"AWS has no instances with {pool.gpu}; choose another GPU"
            yield Conflict(location, pool.instance_type or "(missing)", text, fix)
            continue
        if eks.region not in pool.instance.regions:
            text = f"{pool.instance.name} is not sold in {eks.region}"
            fix = f"use one of {', '.join(sorted(pool.instance.regions))}, or another GPU"
            yield Conflict(location, pool.instance_type, text, fix, ("cluster.eks.region",))
        if pool.capacity is Capacity.ON_DEMAND:
            needed += pool.instance.vcpus * pool.max_nodes
    if eks.gpu_vcpu_quota is not None and needed > eks.gpu_vcpu_quota:
        codes = sorted({pool.instance.quota.value for pool in cluster.gpu_pools if pool.instance})
        text = f"gpuPools may run {needed} vCPUs; the account may run {eks.gpu_vcpu_quota}"
        fix = f"lower maxNodes, or ask AWS to raise quota {' and '.join(codes)} to {needed}"
        yield Conflict(("cluster", "eks", "gpuVcpuQuota"), eks.gpu_vcpu_quota, text, fix, ("cluster.gpuPools",))


def _serving_checks(config: PlatformConfig) -> Iterator[Conflict]:
    """Models' serving sections against the GPU pools that they name."""
    pools = {pool.name: pool for pool in config.cluster.gpu_pools}
    for index, model in enumerate(config.models):
        if model.serving is None:
            continue
        location = ("models", index, "serving")
        pool = pools.get(model.serving.gpu_pool)
        if pool is None:
            text = f"one of cluster.gpuPools: {', '.join(pools) or 'there are none'}"
            fix = "name a pool, or add it"
            yield Conflict((*location, "gpuPool"), model.serving.gpu_pool, text, fix, ("cluster.gpuPools",))
            continue
        profiles = sorted({name for layout in pool.layouts for name, _ in layout})
        offered = [*profiles, *(["gpu"] if not all(pool.layouts) else [])]
        if model.serving.slice not in offered:
            text = f"a slice that pool {pool.name} has: {', '.join(offered)}"
            fix = "choose one of them, or change the pool's MIG layout"
            yield Conflict((*location, "slice"), model.serving.slice, text, fix, ("cluster.gpuPools",))
        elif model.serving.slice == "gpu" and model.serving.gpus > pool.gpus:
            text = f"at most the {pool.gpus} GPUs of a node in pool {pool.name}"
            yield Conflict(
                (*location, "gpus"), model.serving.gpus, text, "set nodes to span several nodes", ("cluster.gpuPools",)
            )


def _production_checks(config: PlatformConfig) -> Iterator[Conflict]:
    counted: list[tuple[Location, int]] = [
        (("gateway", "replicas"), config.gateway.replicas),
        *((("models", i, "replicas"), m.replicas) for i, m in enumerate(config.models)),
        *(
            ((*config.services.location(name), "replicas"), section.replicas)
            for name, section in config.services.there.items()
        ),
    ]
    for location, replicas in counted:
        if replicas < 2:
            text = "at least 2 in prod, so that the service survives the loss of a node"
            yield Conflict(location, replicas, text, "set it to 2 or more", ("environment",))
    eks = config.cluster.eks
    if eks and eks.nat is Nat.SINGLE:
        text = "must be per-zone in prod: with a single NAT gateway, one zone's failure disconnects all zones"
        yield Conflict(("cluster", "eks", "nat"), "single", text, "set it to per-zone", ("environment",))
    if eks and eks.public_api_cidrs:
        text = "must be empty in prod, where the Kubernetes API is private"
        shown = ", ".join(eks.public_api_cidrs)
        yield Conflict(("cluster", "eks", "publicApiCidrs"), shown, text, "remove them", ("environment",))
    if config.observability.log_level is LogLevel.DEBUG:
        text = "must not be debug in prod: debug logs contain prompts"
        yield Conflict(("observability", "logLevel"), "debug", text, "set it to info", ("environment",))


_STAND_IN: dict[str, Any] = {
    "environment": "local",
    "owner": "nobody",
    "cluster": {"kind": "local"},
    "images": {"source": "local-build"},
    "gateway": {"hosts": ["localhost"]},
    "models": [{"name": "stand-in"}],
}
"""Replaces missing or invalid required fields, so that rules between the other fields can be checked."""


def parse(data: object, services: Mapping[str, Service | Mapping[str, object]] | None = None) -> PlatformConfig:
    """Validate a configuration, given as YAML data. Raises ConfigError with all problems.

    `services` are a program's own services by name. They are added to `services.custom`, and replace those of the same
    name there.
    """
    problems: list[Problem] = []
    remaining = profiles.completed(_with_services(copy.deepcopy(data), services or {}))
    config: PlatformConfig | None = None
    replaced: set[str] = set()
    for _ in range(20):  # each round removes the invalid fields, so that the others can be checked, too
        try:
            config = PlatformConfig.model_validate(remaining).reduced
            break
        except ValidationError as error:
            details = _causes(error.errors())
            found = [describe(detail, PlatformConfig) for detail in details]
            # Removing an invalid field can make its section incomplete. That is not the user's mistake.
            problems += [p for p in found if not any(_overlap(p.path, other) for other in replaced)]
            replaced |= {problem.path for problem in found}
            if not _replace(remaining, [entry_of(detail["loc"]) for detail in details]):
                break
    for conflict in _cross_checks(config) if config else ():
        path = format_location(conflict.location)
        involved = (path, *conflict.needs)
        if not any(_overlap(one, other) for one in involved for other in replaced):
            problems.append(Problem(path, str(conflict.value), conflict.limit, conflict.fix))
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _with_services(data: Any, services: Mapping[str, Service | Mapping[str, object]]) -> Any:
    if not services or not isinstance(data, dict):
        return data
    given = {
        name: one.model_dump(mode="json", by_alias=True, exclude_unset=True) if isinstance(one, Service) else dict(one)
        for name, one in services.items()
    }
    content = cast("dict[str, Any]", data)
    section = content.setdefault("services", {})
    if isinstance(section, dict):
        own = cast("dict[str, Any]", section)
        own["custom"] = {**own.get("custom", {}), **given}
    return content


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drops "too short" errors of lists that have invalid entries: pydantic does not count these entries."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(len(place) > len(error["loc"]) and place[: len(error["loc"])] == error["loc"] for place in places)
    ]


def _overlap(one: str, other: str) -> bool:
    """Whether the paths are equal, or one lies within the other."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith((f"{short}.", f"{short}["))


def _replace(data: Any, locations: list[Location]) -> bool:
    """Replace the values at these locations by stand-ins, or remove optional ones. Returns whether any changed."""
    done = False
    for location in sorted(locations, key=len, reverse=True):
        parent: Any = data
        model: object = _STAND_IN
        try:
            for part in location[:-1]:
                parent = parent[part]
                model = _member(model, part)
            stand_in = _member(model, location[-1])
            if stand_in is not None:
                parent[location[-1]] = copy.deepcopy(stand_in)
            else:
                del parent[location[-1]]
            done = True
        except (KeyError, IndexError, TypeError):
            continue
    return done


def _member(value: object, part: str | int) -> object:
    """A member of a stand-in. All entries of a list have the same stand-in, its first."""
    if isinstance(part, int):
        return cast("list[object]", value)[0] if isinstance(value, list) else None
    return cast("dict[str, object]", value).get(part) if isinstance(value, dict) else None
