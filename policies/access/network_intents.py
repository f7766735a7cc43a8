"""Which connections the records and the configuration ask for, and the layer of NetworkPolicies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from components.base import SCRAPER
from components.config import grafana
from components.config.platform import PlatformConfig
from components.config.traces import GATEWAY as SPANS
from components.config.traces import SERVER as TRACES
from components.config.web import destination
from components.observability.log_names import COLLECTOR as COLLECTOR_OF_LINES
from components.observability.log_names import PORT as LINES_PORT
from components.observability.log_names import STORE as LOG_STORE
from components.observability.log_names import STORE_NAMESPACE
from components.observability.scraping import PORT as METRICS_PORT
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.network import (
    BARE,
    COLLECTOR,
    CONNECT,
    PART,
    STRANGERS,
    WORLD,
    Policies,
    elsewhere,
    granted,
    place,
    pod,
    shown,
    space,
)
from policies.access.objects import Rendered

_CLIENT_PORTS = {
    uses.POSTGRES: ("postgres", "pool"),
    uses.KAFKA: ("kafka",),
    uses.NATS: ("client",),
    uses.CACHE: ("redis",),
    uses.OBJECTS: ("s3",),
    uses.REGISTRY: ("http",),
    uses.CAPTURE: ("http",),
    uses.STORE: ("api",),
    uses.KEYCLOAK: ("https",),
}
"""Names of the ports that clients of a part of the data layer use. Other ports are for its own pods, or for metrics."""
_TASK_PORTS = {uses.KAFKA: ("kafka", "peers")}
"""The same for the setup task of a part, if it differs: Kafka's superuser has a certificate, not a password."""
_DNS, _HTTPS, _API, _AGENT = 53, 443, 6443, 80


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """All connections that somebody asks for."""
    found = dict[Access, str]()
    for who, part, ports, reason in _inside(config, rendered):
        target = rendered.workloads.get(part)
        if target is None or (who not in rendered.workloads and who != COLLECTOR):
            continue  # a managed service replaces the part, or nobody connects yet
        for number, name in target.ports.items():
            if name in ports or str(number) in ports:
                found[Access(who, CONNECT, place(target, number))] = reason
    if entrance := rendered.workloads.get(uses.GATEWAY):
        for number, name in entrance.ports.items():
            if name == "https":
                apart = {uses.GATEWAY, COLLECTOR_OF_LINES, LOG_STORE}  # the last two in namespaces that deny it
                inside = [w.name for w in rendered.workloads.values() if w.name not in apart]
                for who in (*inside, COLLECTOR, STRANGERS, BARE, PART, WORLD):
                    # Another namespace's egress is not the platform's business.
                    found[Access(who, CONNECT, place(entrance, number))] = "the gateway is for everybody"
    for who, where, port, reason in _outside(config, rendered):
        if who in rendered.workloads:
            found[Access(who, CONNECT, f"{where}:{shown(port)}")] = reason
    return found


def _inside(config: PlatformConfig, rendered: Rendered) -> Iterator[tuple[str, str, Iterable[str], str]]:
    """(caller, part, names or numbers of ports, reason)."""
    for caller, callee, reason in uses.rest_calls(config):
        record = uses.records(config).get(callee)
        yield caller, callee, ("http", str(record.port) if record else "http"), reason
    for caller, callee, reason in uses.rpc_calls(config):
        yield caller, callee, ("grpc",), reason
    for name, record in uses.records(config).items():
        for part, reason in uses.uses(record):
            yield name, part, _CLIENT_PORTS[part], reason
        yield name, uses.STORE, _CLIENT_PORTS[uses.STORE], f"record of {name}: its own secrets and keys"
    yield uses.REGISTRY, uses.POSTGRES, _CLIENT_PORTS[uses.POSTGRES], "the schema registry keeps schemas there"
    yield uses.CAPTURE, uses.POSTGRES, _CLIENT_PORTS[uses.POSTGRES], "change data capture reads the outboxes"
    yield uses.CAPTURE, uses.KAFKA, _CLIENT_PORTS[uses.KAFKA], "change data capture writes the outboxes' topics"
    yield uses.POSTGRES, uses.OBJECTS, _CLIENT_PORTS[uses.OBJECTS], "PostgreSQL keeps backups there"
    for who, part, ports, reason in _logins(config):
        yield who, part, ports, reason
    for part in (uses.STORE, uses.OBJECTS) if uses.saves_snapshots(config) else ():
        yield uses.SNAPSHOTS, part, _CLIENT_PORTS[part], "it saves snapshots of the secret store"
    if uses.issued(config):
        yield uses.STORE, uses.POSTGRES, _CLIENT_PORTS[uses.POSTGRES], "the secret store issues logins there"
    if uses.issued_cache(config):
        yield uses.STORE, uses.CACHE, _CLIENT_PORTS[uses.CACHE], "the secret store issues logins there"
    if uses.issued(config) or uses.issued_cache(config):
        yield uses.DATABASE_TASK, uses.STORE, _CLIENT_PORTS[uses.STORE], "it connects the store to data servers"
    if uses.issued_nats(config):
        yield uses.NATS, uses.STORE, _CLIENT_PORTS[uses.STORE], "it looks up logins that pods have registered"
    if config.security.opa:
        yield uses.GATEWAY, uses.OPA, ("grpc",), "security.opa: the gateway asks for decisions"
        yield uses.OPA, uses.NATS, _CLIENT_PORTS[uses.NATS], "security.opa: it follows the directory of keys"
        yield uses.OPA, uses.KAFKA, _CLIENT_PORTS[uses.KAFKA], "security.opa: it sends decisions that Audit keeps"
        yield uses.OPA, uses.REGISTRY, _CLIENT_PORTS[uses.REGISTRY], "security.opa: schemas of its events"
    if config.own_mesh:
        for workload in rendered.workloads.values():
            if uses.SIDECAR_LABEL in workload.labels:
                yield workload.name, uses.ISTIOD, ("xds",), "its sidecar gets configuration and certificates"
        for collector in (COLLECTOR, SCRAPER[1]) if config.observability.prometheus else ():
            yield collector, uses.ISTIOD, ("xds",), "sidecars answer the collector by its certificate"
    yield from _dashboards(config)
    for name in uses.records(config) if config.observability.traces else ():
        yield name, SPANS, ("otlp", "otlp-grpc"), "observability.traces: services send spans"
    if config.gateway_traces:
        yield uses.GATEWAY, SPANS, ("otlp", "otlp-grpc"), "observability.traces: the gateway sends spans"
    if config.observability.traces:
        yield SPANS, TRACES, ("otlp",), "observability.traces: the OpenTelemetry gateway sends spans on"
        for name, record in uses.records(config).items():
            if record.shows_telemetry:
                yield name, TRACES, ("query",), f"record of {name}: shows_telemetry"
    for part, ports in _CLIENT_PORTS.items():
        yield f"{part}-task", part, _TASK_PORTS.get(part, ports), f"the setup task of {part}"
    for workload in rendered.workloads.values():
        if workload.scraped:
            for collector in (COLLECTOR, *([SCRAPER[1]] if config.observability.prometheus else [])):
                yield collector, workload.name, (str(workload.scraped),), "the pods announce metrics"


def _dashboards(config: PlatformConfig) -> Iterator[tuple[str, str, Iterable[str], str]]:
    """Connections of Grafana, and to it."""
    if config.observability.grafana is None:
        return
    yield uses.GATEWAY, grafana.PART, ("http",), "the gateway forwards people who look at dashboards"
    yield grafana.PART, uses.KEYCLOAK, _CLIENT_PORTS[uses.KEYCLOAK], "it logs people in"
    yield grafana.PART, TRACES, ("query",), "it shows traces"


def _logins(config: PlatformConfig) -> Iterator[tuple[str, str, Iterable[str], str]]:
    """Connections of Keycloak, and to it."""
    if config.security.keycloak is None:
        return
    yield uses.KEYCLOAK, uses.POSTGRES, _CLIENT_PORTS[uses.POSTGRES], "Keycloak keeps its users there"
    yield uses.GATEWAY, uses.KEYCLOAK, ("http",), "the gateway forwards people's logins"
    for name, record in uses.records(config).items():
        if record.keeps_keys:
            yield (
                name,
                uses.KEYCLOAK,
                _CLIENT_PORTS[uses.KEYCLOAK],
                f"record of {name}: keeps_keys, so it logs people in",
            )


def _outside(config: PlatformConfig, rendered: Rendered) -> Iterator[tuple[str, str, int, str]]:
    """(workload, where, port, reason)."""
    ends = elsewhere(rendered)
    for workload in rendered.workloads.values():
        if workload.namespace == rendered.namespace:
            for where in ends:
                yield workload.name, where, _DNS, "names are resolved"
    internet = "the internet"
    for name, port, reason in uses.outside_ports(config):
        for where in ends:
            if where in (internet, "the VPC"):
                yield name, where, port, reason
    for name in uses.answers_rpc(config):
        yield from _api_server(name, ends, "it verifies callers' tokens with the API server's keys")
    if any(model.serving for model in config.models):
        yield from _api_server(uses.FRONT.name, ends, "it watches models that KServe serves")
    data = config.data
    if data.kafka and data.kafka.msk is None and data.kafka.replicas > 1:
        yield from _api_server(uses.KAFKA, ends, "brokers read their node's zone")
    if config.own_mesh:
        yield from _api_server(uses.ISTIOD, ends, "it watches pods and Services, and reviews tokens of accounts")
    if config.security.secret_store:
        yield from _api_server(uses.STORE, ends, "it reviews tokens of service accounts")
    if config.observability.traces:
        yield from _api_server(SPANS, ends, "it watches the pods that spans come from")
    if found := uses.langfuse(config):
        yield SPANS, space(found[0]), found[1], "observability.traces.langfuse"
    if config.security.keycloak:
        for one in config.security.keycloak.providers:
            for url in one.addresses:
                yield from _at(uses.KEYCLOAK, url, ends, f"security.keycloak.providers.{one.name}")
    yield from _stores_of_dashboards(config, ends)
    if found := uses.collector(config):
        for name in uses.records(config):
            yield name, space(found[0]), found[1], "observability.otlpEndpoint"
    for name, record in uses.records(config).items():
        if record.shows_telemetry and config.observability.prometheus:
            yield name, space(SCRAPER[0]), METRICS_PORT, f"record of {name}: shows_telemetry"
        if record.shows_telemetry and config.observability.logs and not config.observability.logs.loki:
            yield name, space(STORE_NAMESPACE), LINES_PORT, f"record of {name}: shows_telemetry"
    yield from _managed(config, ends)


def _stores_of_dashboards(config: PlatformConfig, ends: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """Connections of Grafana to stores outside the platform's namespace."""
    section = config.observability
    if section.grafana is None:
        return
    loki = section.logs.loki if section.logs else None
    urls = {"observability.grafana.prometheusUrl": section.grafana.prometheus_url}
    if loki and not loki.secret_name:  # Grafana cannot read its login
        urls["observability.logs.loki"] = loki.url
    for reason, url in urls.items():
        yield from _at(grafana.PART, url, ends, reason)


def _at(name: str, url: str, ends: Iterable[str], reason: str) -> Iterator[tuple[str, str, int, str]]:
    """Connections to a URL, in the cluster or outside. A policy names ports, not hosts."""
    inside, ports = destination(url)
    if inside:
        yield name, space(inside[0]), inside[1], reason
    for port in ports:
        yield from ((name, where, port, reason) for where in ends if where in ("the internet", "the VPC"))


def _api_server(name: str, ends: Iterable[str], reason: str) -> Iterator[tuple[str, str, int, str]]:
    """A policy can name the API server by its ports only, so these are open to every address."""
    for where in ends:
        for port in (_HTTPS, _API):
            yield name, where, port, f"{reason} (a policy names it by its ports only)"


def _managed(config: PlatformConfig, ends: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """Connections to managed services of AWS."""
    data, records = config.data, uses.records(config)
    using = dict[str, list[str]]()
    for name, record in records.items():
        for part, _ in uses.uses(record):
            using.setdefault(part, [f"{part}-task"]).append(name)
    keycloak = [uses.KEYCLOAK] if config.security.keycloak else []
    if data.postgres and data.postgres.rds:
        for name in (*using.get(uses.POSTGRES, ()), uses.POSTGRES, uses.REGISTRY, uses.CAPTURE, *keycloak):
            yield name, "the VPC", 5432, "PostgreSQL is RDS"
    if data.kafka and data.kafka.msk:
        for name in (*using.get(uses.KAFKA, ()), uses.CAPTURE):
            yield name, "the VPC", 9096, "Kafka is MSK"
    if data.object_store and data.object_store.s3:
        backups = [uses.POSTGRES] if data.postgres and not data.postgres.rds else []
        snapshots = [uses.SNAPSHOTS] if uses.saves_snapshots(config) else []
        for name in (*using.get(uses.OBJECTS, ()), *backups, *snapshots):
            yield name, "the pod identity agent", _AGENT, "pods log in to S3 with a role"
            for where in ends:
                if where in ("the internet", "the VPC"):
                    yield name, where, _HTTPS, "the object store is S3"


def _holder(access: Access, rendered: Rendered) -> str:
    """The policies that would have to admit the connection."""
    policies = Policies(rendered)
    part, _, port = access.target.rpartition(":")
    source, target = rendered.workloads.get(access.who), rendered.workloads.get(part)
    if target is None or (source and not policies.leaves(pod(source), pod(target), int(port), target.ports[int(port)])):
        chosen = policies.selecting(pod(source), "Egress") if source else []
        return " and ".join(one.title for one in chosen) + " (egress)"
    chosen = policies.selecting(pod(target), "Ingress")
    # The policy that denies by default selects all pods; the right belongs to the one of the part.
    own = [one for one in chosen if one.inputs["spec"]["podSelector"]]
    return " and ".join(one.title for one in own or chosen) + " (ingress)"


LAYER = Layer(
    "network",
    "NetworkPolicies",
    "Which pods connect to which TCP ports of which pods, and to which addresses outside. Addresses outside are "
    "classes: the internet, the instance metadata, the pod identity agent, the VPC, other namespaces.",
    granted,
    intended,
    _holder,
)
