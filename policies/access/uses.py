"""What the services' records and the configuration ask for, in the terms of the layers.

This is a derivation of its own: nothing here may come from the code that renders objects, or nothing would be proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from components.ai.model_server import part_name
from components.config.platform import PlatformConfig
from components.config.traces import GATEWAY as SPANS
from components.services.record import DataIntent, ServiceRecord
from components.services.registry import FRONT

GATEWAY = "gateway"
CAPTURE = "change-data-capture"
REGISTRY = "schema-registry"
SNAPSHOTS = "secret-store-snapshots"
"""The schedule that saves snapshots of the secret store, its account, and its bucket."""
DATABASE_TASK = "secret-store-databases"
"""The task that connects the secret store to data servers."""
OPA, DIRECTORY, DECISIONS = "opa", "tenants", "policy.decided.v1"
"""Who decides at the gateway, and the bucket that says whose a key is."""
ISTIOD, SIDECAR_LABEL = "istiod", "security.istio.io/tlsMode"
"""The mesh's control plane, and the label of pods with a sidecar, where the platform runs Istio itself."""
POSTGRES, KAFKA, NATS, CACHE, OBJECTS, STORE = "postgres", "kafka", "nats", "cache", "object-store", "secret-store"
KEYCLOAK = "keycloak"


def records(config: PlatformConfig) -> Mapping[str, ServiceRecord]:
    """Records of the enabled services."""
    return config.around.records


def uses(record: DataIntent) -> Iterator[tuple[str, str]]:
    """(part of the data layer, reason) for each part that a service connects to."""
    about = f"record of {record.name}: "
    if record.database:
        yield POSTGRES, about + "database"
    if record.produces or record.consumes:
        yield KAFKA, about + ("produces" if record.produces else "consumes")
        yield REGISTRY, about + "schemas of its events"
    if record.sends or record.hears or record.keeps or record.follows:
        fields = [field for field in ("sends", "hears", "keeps", "follows") if getattr(record, field)]
        yield NATS, about + ", ".join(fields)
    if record.cache:
        yield CACHE, about + "cache"
    if record.buckets:
        yield OBJECTS, about + f"buckets {', '.join(record.buckets)}"


def rest_calls(config: PlatformConfig) -> Iterator[tuple[str, str, str]]:
    """(caller, callee, reason) for REST, including the gateway and the models."""
    for name, record in records(config).items():
        if record.prefixes:
            yield GATEWAY, name, f"record of {name}: prefixes"
        for callee in record.asks_rest:
            yield name, callee, f"record of {name}: asks_rest"
        for caller in record.callers:
            yield caller, name, f"record of {name}: callers"
    for model in config.models:
        if model.external is None:
            yield FRONT.name, part_name(model), f"models.{model.name}"


def rpc_calls(config: PlatformConfig) -> Iterator[tuple[str, str, str]]:
    """(caller, callee, reason) for gRPC."""
    for name, record in records(config).items():
        for callee in record.asks:
            yield name, callee, f"record of {name}: asks"


def saves_snapshots(config: PlatformConfig) -> bool:
    """Whether snapshots of the secret store are saved in the object store."""
    return config.security.secret_store is not None and config.data.object_store is not None


def issued(config: PlatformConfig) -> set[str]:
    """Services whose logins for PostgreSQL the secret store issues."""
    postgres = config.data.postgres
    if config.security.secret_store is None or postgres is None or postgres.rds is not None:
        return set()
    return {name for name, record in records(config).items() if record.database and not record.custom}


def issued_cache(config: PlatformConfig) -> set[str]:
    """Services whose logins for the cache the secret store issues."""
    if config.security.secret_store is None or config.data.cache is None:
        return set()
    return {name for name, record in records(config).items() if record.cache and not record.custom}


def issued_nats(config: PlatformConfig) -> set[str]:
    """Services whose pods register their logins for NATS in the secret store."""
    if config.security.secret_store is None or config.data.nats is None:
        return set()
    speaking = {name for name, record in records(config).items() if NATS in (part for part, _ in uses(record))}
    return {name for name in speaking if not records(config)[name].custom}


def answers_rpc(config: PlatformConfig) -> set[str]:
    """Services that verify callers' tokens, for which they ask the API server for its public keys."""
    return {callee for _, callee, _ in rpc_calls(config) if callee in records(config)}


def outside_ports(config: PlatformConfig) -> Iterator[tuple[str, int, str]]:
    """(workload, TCP port, reason) for connections to addresses outside the cluster."""
    for name, record in records(config).items():
        for port in record.egress:
            yield name, port, f"record of {name}: egress"
    url = urlsplit(config.observability.otlp_endpoint)
    if url.hostname and collector(config) is None:
        for name in records(config):
            yield name, _port(url), "observability.otlpEndpoint"
    if (traces := config.observability.traces) and traces.langfuse and langfuse(config) is None:
        yield SPANS, _port(urlsplit(traces.langfuse.url)), "observability.traces.langfuse"
    for model in config.models:
        if model.external is not None:
            url = urlsplit(model.external.url)
            yield FRONT.name, _port(url), f"models.{model.name}.external.url"
        if model.serving is not None:
            yield part_name(model), 443, f"models.{model.name}.serving.weights"


def collector(config: PlatformConfig) -> tuple[str, int] | None:
    """(namespace, port) of the collector of traces inside the cluster; None: traces go nowhere, or outside."""
    return _inside(urlsplit(config.observability.otlp_endpoint))


def langfuse(config: PlatformConfig) -> tuple[str, int] | None:
    """(namespace, port) of a Langfuse inside the cluster that receives traces; None: there is none, or outside."""
    traces = config.observability.traces
    return _inside(urlsplit(traces.langfuse.url)) if traces and traces.langfuse else None


def _inside(url: SplitResult) -> tuple[str, int] | None:
    if not url.hostname:
        return None
    match = re.fullmatch(r"[a-z0-9-]+\.([a-z0-9-]+)(\.svc(\..+)?)?", url.hostname)
    return (match[1], _port(url)) if match else None


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
