"""Creates the Pulumi resources of services from their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import pulumi

from components.ai.bindings import bindings
from components.ai.service import AiService, AiServiceArgs, ServiceIntent
from components.base import PlatformComponent
from components.config.observability import Observability
from components.config.platform import PlatformConfig
from components.config.problems import format_location
from components.data.layer import DataLayer
from components.pods import customized
from components.security.logins import Logins
from components.services.record import Bundled, ServiceRecord
from components.services.registry import rest_callers, rpc_callers

Options = Callable[[list[pulumi.Resource]], pulumi.ResourceOptions]
"""Resource options that order a part after the given resources."""


def address(config: PlatformConfig, name: str) -> str:
    """host:port of a service's gRPC API; empty if the service is not enabled."""
    record = config.around.records.get(name)
    return f"{name}-rpc.{config.cluster.namespace}:{record.rpc_port}" if record else ""


def url(config: PlatformConfig, name: str) -> str:
    """Base URL of a service's REST API inside the cluster; empty if the service is not enabled."""
    record = config.around.records.get(name)
    return f"http://{name}.{config.cluster.namespace}:{record.port}" if record else ""


def variable(name: str) -> str:
    """Environment variable that holds the address of another service."""
    return f"SERVICE_{name.upper().replace('-', '_')}"


def asks_for_keys(config: PlatformConfig) -> bool:
    """Whether a service that manages API keys is enabled. Other services then require a key from callers."""
    return bool(config.around.keeper)


def intent(record: ServiceRecord, config: PlatformConfig) -> ServiceIntent:
    """The intent of a service, with the values of its configuration section."""
    records, section = config.around.records, config.services.there[record.name]
    return intent_for(record, section, config.observability, records)


def intent_for(
    record: ServiceRecord, section: Bundled, observability: Observability, records: Mapping[str, ServiceRecord]
) -> ServiceIntent:
    """The intent of a service from its section and the records of all services. It serves gRPC if one of them calls."""
    calling = rpc_callers(record, records)
    return ServiceIntent(
        name=record.name,
        port=record.port,
        callers=rest_callers(record, records),
        ready_path=record.ready_path,
        live_path=record.live_path,
        metrics=record.metrics,
        rpc_port=record.rpc_port if calling else 0,
        rpc_callers=calling,
        replicas=section.replicas,
        resources=section.resources,
        migration=record.migration,
        scratch_mib=record.scratch_mib,
        environment={
            "SERVICE_LOG_LEVEL": observability.log_level.value,
            "SERVICE_OTLP_ENDPOINT": observability.spans_endpoint,
            "SERVICE_TRACE_SAMPLE_RATIO": str(observability.trace_sample_ratio),
            "SERVICE_PORT": str(record.port),
            # Bundled services know their own names.
            **({"SERVICE_NAME": record.name} if record.custom else {}),
        },
    )


def arguments(
    record: ServiceRecord,
    config: PlatformConfig,
    data: DataLayer,
    key_secret: pulumi.Input[str],
    more: AiServiceArgs,
) -> AiServiceArgs:
    """Arguments of a service: addresses and logins of parts that it uses. `more` adds namespace, image and extras."""
    around, section, bound = config.around, config.services.there[record.name], bindings(data, record)
    inside, outside = config.observability.collector
    addresses = {name: address(config, name) for name in record.asks}
    urls = {name: url(config, name) for name in record.asks_rest if record.receives_urls}
    found: AiServiceArgs = {
        **more,
        **customized(section.pod, format_location((*config.services.location(record.name), "pod"))),
        "files": {**bound.files, **more.get("files", {})},
        "environment": {
            **bound.environment,
            **{variable(name): place for name, place in addresses.items()},
            **{f"{variable(name)}_URL": place for name, place in urls.items()},
            **({"SERVICE_TENANTS": "true"} if record.asks_for_keys and asks_for_keys(config) else {}),
            **({"SERVICE_GATEWAY_TRACES": "true"} if config.gateway_traces else {}),
            **record.variables(section, around),
            **more.get("environment", {}),
        },
        "secrets": {
            **bound.secrets,
            **more.get("secrets", {}),
            **({"SERVICE_INSTALLATION_KEY": (key_secret, "key")} if record.keeps_keys else {}),
            **record.secrets(section, around),
        },
        "versions": bound.versions,
        "annotations": bound.annotations,
        "asks": sorted((*(name for name, place in addresses.items() if place), *bound.asks)),
        "outlets": [*record.egress, *more.get("outlets", []), *outside],
    }
    if inside:
        found["collector"] = inside
    return found


def _own_secrets(
    name: str, record: ServiceRecord, args: AiServiceArgs, opts: pulumi.ResourceOptions
) -> tuple[Logins, AiServiceArgs]:
    """The Secret with a service's own secrets, and the arguments with files for them."""
    login = f"{record.name}-keys"
    keys = Logins(
        f"{name}-keys",
        {"namespace": args["namespace"], "logins": {login: list(record.own_secrets)}, "generation": 1},
        opts,
    )
    own: dict[str, tuple[pulumi.Input[str], str]] = {
        f"SERVICE_{secret.upper()}_SECRET": (keys.secret(login), secret) for secret in record.own_secrets
    }
    return keys, {**args, "secrets": {**args.get("secrets", {}), **own}}


def placed(record: ServiceRecord, args: AiServiceArgs) -> AiServiceArgs:
    """The arguments with the secrets where the service looks for them."""
    if not record.secrets_in_environment:
        return args
    return {**args, "secrets": {}, "secret_variables": args.get("secrets", {})}


class _KeepsSecretsResources(NamedTuple):
    """Resources of a service with secrets of its own."""

    service: AiService
    keys: Logins | None
    """Its secrets; None: the secret store holds all its keys."""


class _KeepsSecrets(PlatformComponent):
    """A service with its own secrets, which password rotation does not change."""

    url: pulumi.Output[str]
    leaves: bool

    def __init__(
        self,
        name: str,
        record: ServiceRecord,
        intent: ServiceIntent,
        args: AiServiceArgs,
        *,
        keep: bool,
        held: bool = True,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai", f"{name}-part", {}, opts)
        keys = None
        if held:
            keys, args = _own_secrets(name, record, args, self.child(protect=True) if keep else self.child())
        service = AiService(name, intent, args, self.child())
        self.url, self.ports, self.leaves = service.url, service.ports, service.leaves
        self.resources = _KeepsSecretsResources(service, keys)
        self.finish(
            {
                "kind": "Deployment",
                "namespace": args["namespace"],
                "name": record.name,
                "probe": f"GET {intent.ready_path} answers 200",
            },
            url=self.url,
        )


def make(
    name: str,
    record: ServiceRecord,
    config: PlatformConfig,
    data: DataLayer,
    key_secret: pulumi.Input[str],
    more: AiServiceArgs,
    after: list[pulumi.Resource],
    options: Options,
    reads: tuple[tuple[str, str], ...] = (),
) -> PlatformComponent:
    """Create a service from its record. `reads`: (API group, resource) pairs that it watches in its namespace."""
    wanted = replace(intent(record, config), reads=reads)
    args = arguments(record, config, data, key_secret, more)
    opts = options([*after, *(data.parts[part] for part in record.waits_for if part in data.parts)])
    if record.custom and record.own_secrets:
        kept = pulumi.ResourceOptions.merge(options([]), pulumi.ResourceOptions(protect=data.keeps))
        _, args = _own_secrets(name, record, args, kept)
    args = placed(record, args)
    if record.component == AiService.__name__:
        return AiService(name, wanted, args, opts)
    component = type(record.component, (_KeepsSecrets,), {})  # the class name is part of the component's type token
    held = record.holds_secrets(config.services.there[record.name])
    return component(name, record, wanted, args, keep=data.keeps, held=held, opts=opts)


def callers(config: PlatformConfig) -> Mapping[str, tuple[str, ...]]:
    """Callers that may connect to each service, by service name."""
    return {name: intent(record, config).all_callers for name, record in config.around.records.items()}
