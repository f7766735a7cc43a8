"""The bundled services beside the router: what they have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi

from components.ai.bindings import bindings
from components.ai.service import AiService, AiServiceArgs, ServiceIntent
from components.config.base import quantity
from components.config.observability import Observability
from components.config.platform import PlatformConfig
from components.config.services import (
    Audit,
    Billing,
    Bundled,
    Prompt,
    PromptQuotas,
    PromptQuotasOf,
    User,
    UserQuotas,
    UserQuotasOf,
)
from components.data.layer import DataLayer
from components.intents import SERVICES

PORT = 8080
RPC_PORT = 9090
CALLERS: dict[str, tuple[str, ...]] = {
    "user": ("gateway",),
    "prompt": ("gateway",),
    "guardrails": ("gateway",),
    "embeddings": ("router",),
    "retriever": ("gateway",),
    "billing": ("gateway",),
    "audit": ("gateway",),
}
"""Who may call each over REST."""
RPC_CALLERS: dict[str, tuple[str, ...]] = {
    "user": ("retriever", "router"),
    "prompt": ("router",),
    "guardrails": ("router",),
    "embeddings": ("retriever", "router"),
    "router": ("retriever",),
}
"""Who may call each over gRPC; who is not here serves none."""
SCRATCH_MIB = {"retriever": 128}
"""Of /tmp, where it is not the usual size. Retriever keeps uploads there: 96 MiB at once, and its parsers' files."""
DOCUMENTS_PERCENT = 50
"""Of the object store's volume. The rest is for backups and the write-ahead log: a store that documents fill would stop
PostgreSQL."""
ASKS_FOR_KEYS = frozenset(("prompt", "guardrails", "retriever", "billing", "audit"))
"""Services behind the gateway that know callers by their keys, where there is the User service to tell them."""


def rpc_address(config: PlatformConfig, name: str) -> str:
    """host:port of a service's gRPC; empty where the environment does not have the service."""
    there = name == "router" or name in config.services.bundled
    return f"{name}-rpc.{config.cluster.namespace}:{RPC_PORT}" if there else ""


def rpc_addresses(config: PlatformConfig, caller: str) -> dict[str, str]:
    """Where each service is that this one may call over gRPC, by its name; empty: it is not there."""
    return {name: rpc_address(config, name) for name, callers in RPC_CALLERS.items() if caller in callers}


def told(addresses: Mapping[str, str]) -> dict[str, str]:
    """Variables that say where services are."""
    return {f"SERVICE_{name.upper()}": address for name, address in addresses.items()}


def asks(addresses: Mapping[str, str]) -> tuple[str, ...]:
    """The services that are there."""
    return tuple(sorted(name for name, address in addresses.items() if address))


def intent(name: str, config: Bundled, observability: Observability) -> ServiceIntent:
    """A service as configured."""
    rpc_callers = RPC_CALLERS.get(name, ())
    return ServiceIntent(
        name=name,
        port=PORT,
        callers=CALLERS[name],
        rpc_port=RPC_PORT if rpc_callers else 0,
        rpc_callers=rpc_callers,
        replicas=config.replicas,
        resources=config.resources,
        tables=SERVICES[name].database,
        scratch_mib=SCRATCH_MIB.get(name, ServiceIntent.scratch_mib),
        environment=environment(observability, PORT),
    )


def environment(observability: Observability, port: int) -> dict[str, str]:
    """What every service is told."""
    return {
        "SERVICE_LOG_LEVEL": observability.log_level.value,
        "SERVICE_OTLP_ENDPOINT": observability.otlp_endpoint,
        "SERVICE_TRACE_SAMPLE_RATIO": str(observability.trace_sample_ratio),
        "SERVICE_PORT": str(port),
    }


def kept(service: Bundled) -> dict[str, str]:
    """What a service may keep of each tenant, or for how long it keeps things."""
    if isinstance(service, (User, Prompt)):
        each = {one.tenant: _quotas(one) for one in service.quotas_of}
        return {"SERVICE_QUOTAS": json.dumps(_quotas(service.quotas)), "SERVICE_QUOTAS_OF": json.dumps(each)}
    if isinstance(service, (Billing, Audit)):
        return {f"SERVICE_KEEP_{name.upper()}": str(days) for name, days in service.retention.model_dump().items()}
    return {}


def _quotas(section: UserQuotas | PromptQuotas) -> dict[str, int]:
    """By the services' own names for things."""
    # What one tenant's section does not name holds for it as for the others.
    single = isinstance(section, (UserQuotasOf, PromptQuotasOf))
    found = section.model_dump(exclude={"tenant"}, exclude_unset=single)
    if isinstance(section, UserQuotas):
        return found
    return {name if name == "prompts" else f"{name} of prompts": most for name, most in found.items()}


def rooms(config: PlatformConfig) -> dict[str, str]:
    """What Retriever may keep: a tenant's quotas, and the documents' part of the object store's volume."""
    found: dict[str, str] = {}
    if retriever := config.services.retriever:
        quotas = retriever.quotas
        found["SERVICE_QUOTA_FILES"] = str(quotas.files)
        found["SERVICE_QUOTA_BYTES"] = str(int(quantity(quotas.storage)))
        found["SERVICE_QUOTA_STORES"] = str(quotas.stores)
        found["SERVICE_QUOTA_PASSAGES"] = str(quotas.passages)
    if (store := config.data.object_store) and store.s3 is None:
        found["SERVICE_ROOM_BYTES"] = str(int(quantity(store.storage) * DOCUMENTS_PERCENT // 100))
    return found


def make(
    name: str,
    service: str,
    config: Bundled,
    observability: Observability,
    args: AiServiceArgs,
    data: DataLayer,
    opts: pulumi.ResourceOptions | None = None,
) -> AiService:
    """A service with what its intent says of the data layer, and what `args` say besides."""
    bound = bindings(data, service)
    found: AiServiceArgs = {
        **args,
        "environment": {**bound.environment, **args.get("environment", {})},
        "secrets": {**bound.secrets, **args.get("secrets", {})},
        "files": bound.files,
        "versions": bound.versions,
        "annotations": bound.annotations,
    }
    return AiService(name, intent(service, config, observability), found, opts)
