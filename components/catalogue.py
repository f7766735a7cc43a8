"""Catalogue of all parts: what each is, its version and image."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from components.config.grafana import PART as GRAFANA
from components.observability.log_names import COLLECTOR as LOG_COLLECTOR
from components.observability.log_names import IMAGE as COLLECTOR_IMAGE
from components.observability.log_names import STORE as LOG_STORE
from components.services.record import ServiceRecord
from components.services.registry import FRONT, SERVICES

LOCK_FILE = Path(__file__).with_name("versions.lock.yaml")


NO_DIGEST = "cannot be deployed: "
"""Beginning of the preview warning about an image without a digest, by which `forge preview` recognizes it."""


@dataclass(frozen=True)
class Part:
    """One part of the platform."""

    name: str
    title: str
    token: str
    """Type token of the component that provisions it."""
    health: str
    """Description of its health check."""
    image: str = ""
    """Name of its image in the lock file; empty if it has none."""
    toggle: str = ""
    """Path of the configuration section that enables it; empty means always enabled."""
    own: bool = False
    """Whether it is a user's own service, whose image has no version in the lock file."""


def _service(record: ServiceRecord) -> Part:
    section = f"services.custom.{record.name}" if record.custom else f"services.{record.name}"
    return Part(
        record.name,
        record.title,
        f"cogniforge:ai:{record.component}",
        f"GET {record.ready_path} answers 200",
        record.image,
        "" if record.always else section,
        record.custom,
    )


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            "namespace",
            "Namespace with default-deny network policy",
            "cogniforge:cluster:PlatformNamespace",
            "it is Active",
        ),
        Part(
            "gateway",
            "Gateway (Envoy data plane)",
            "cogniforge:mesh:Gateway",
            "the Deployment is available and /ready answers 200",
            image="gateway",
        ),
        Part(
            "inference-sim",
            "Model server (vLLM simulator)",
            "cogniforge:ai:ModelServer",
            "GET /health answers 200",
            image="inference-sim",
            toggle="models[].engine",
        ),
        *(
            Part(name, title, f"cogniforge:data:{kind}", health, image=image, toggle=f"data.{toggle}")
            for name, title, kind, health, image, toggle in (
                (
                    "postgres",
                    "PostgreSQL with PgBouncer and Barman",
                    "PostgresCluster",
                    "a row is written and read through the pool",
                    "postgres",
                    "postgres",
                ),
                ("kafka", "Kafka (KRaft)", "KafkaCluster", "an event is written and read", "kafka", "kafka"),
                ("nats", "NATS with JetStream", "Nats", "a value is kept and read", "nats", "nats"),
                ("cache", "Redis", "Cache", "a key is written by its owner, and refused to others", "cache", "cache"),
                (
                    "object-store",
                    "S3 gateway",
                    "ObjectStore",
                    "an object is written and read",
                    "object-store",
                    "objectStore",
                ),
                (
                    "schema-registry",
                    "Apicurio Registry",
                    "SchemaRegistry",
                    "every event's schema is read back",
                    "schema-registry",
                    "schemaRegistry",
                ),
                (
                    "change-data-capture",
                    "Debezium on Kafka Connect",
                    "ChangeDataCapture",
                    "every connector and its task run",
                    "kafka",
                    "changeDataCapture",
                ),
            )
        ),
        *(_service(record) for record in SERVICES.values()),
        Part(
            "monitoring",
            "Metrics, alerts, dashboard",
            "cogniforge:observability:Monitoring",
            "the operator has taken the rules",
            toggle="observability.prometheusOperator",
        ),
        Part(
            "admission",
            "Admission policies",
            "cogniforge:security:AdmissionPolicy",
            "a pod with another image is refused",
        ),
        Part(
            "secret-store",
            "Secret store (OpenBao)",
            "cogniforge:security:SecretStore",
            "its content is as the services' records declare",
            image="openbao",
            toggle="security.secretStore",
        ),
        Part(
            "secret-store-snapshots",
            "Snapshots of the secret store",
            "cogniforge:security:StoreSnapshots",
            "a snapshot is saved and read back",
            image="data-tasks",
            toggle="security.secretStore",
        ),
        Part(
            "keycloak",
            "Keycloak (OpenID Connect provider)",
            "cogniforge:security:Keycloak",
            "its servers are ready, and reach their database",
            image="keycloak",
            toggle="security.keycloak",
        ),
        Part(
            "keycloak-realm",
            "Realm of people, roles, groups and clients",
            "cogniforge:security:KeycloakRealm",
            "the realm is as declared",
            image="data-tasks",
            toggle="security.keycloak",
        ),
        Part(
            "opa",
            "OPA, which decides at the gateway",
            "cogniforge:security:Opa",
            "every replica has a signed bundle in force",
            image="opa",
            toggle="security.opa",
        ),
        Part(
            "istiod",
            "Istio's control plane, for sidecars",
            "cogniforge:mesh:Istiod",
            "it is ready, and gives sidecars configuration and certificates",
            image="istiod",
            toggle="mesh.mode",
        ),
        Part("api-key", "API key of the gateway", "cogniforge:security:ApiKey", "the Secret exists"),
        Part("certificate", "Gateway certificate", "cogniforge:security:Certificate", "the Secret exists"),
        Part(
            "isolation",
            "Check that a pod without rights reaches no port",
            "cogniforge:security:IsolationCheck",
            "no port of the platform answers a pod without rights",
            image="data-tasks",
            toggle="cluster.networkPolicies",
        ),
        Part(
            "prometheus",
            "Prometheus with Alertmanager",
            "cogniforge:observability:Prometheus",
            "Prometheus and Alertmanager are ready",
            image="prometheus",
            toggle="observability.prometheus",
        ),
        Part(
            LOG_STORE,
            "Log store",
            "cogniforge:observability:LogStore",
            "VictoriaLogs answers GET /health",
            image=LOG_STORE,
            toggle="observability.logs",
        ),
        Part(
            LOG_COLLECTOR,
            "OpenTelemetry Collector on each node",
            "cogniforge:observability:OpenTelemetryCollector",
            "the collector of each node is ready",
            image=COLLECTOR_IMAGE,
            toggle="observability.logs",
        ),
        Part(
            "telemetry-gateway",
            "OpenTelemetry gateway",
            "cogniforge:observability:OpenTelemetryGateway",
            "the OpenTelemetry gateway answers GET / of its health check",
            image=COLLECTOR_IMAGE,
            toggle="observability.traces",
        ),
        Part(
            "jaeger",
            "Jaeger",
            "cogniforge:observability:Jaeger",
            "Jaeger answers GET /status",
            image="jaeger",
            toggle="observability.traces",
        ),
        Part(
            GRAFANA,
            "Grafana",
            "cogniforge:observability:Grafana",
            "Grafana answers GET /api/health",
            toggle="observability.grafana",
        ),
        Part(
            "end-to-end",
            "End-to-end check",
            "cogniforge:observability:EndToEndCheck",
            "a chat completion through the gateway has choices",
            image=FRONT.image,
        ),
    )
}
"""All parts of the platform by name, bundled services among them."""


def parts(records: Iterable[ServiceRecord]) -> Mapping[str, Part]:
    """All parts by name, with the user's own services among `records`."""
    return PARTS | {record.name: _service(record) for record in records if record.custom}


class LockError(Exception):
    """The lock file is missing or invalid."""


@dataclass(frozen=True)
class LockedImage:
    """A released image of the platform."""

    name: str
    version: str
    digest: str | None
    former: str | None = None
    """Digest of the previous release. During an update, its pods may still have to be recreated."""


@functools.cache
def _lock() -> dict[str, Any]:
    try:
        content: object = yaml.safe_load(LOCK_FILE.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise LockError(f"{LOCK_FILE} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise LockError(f"{LOCK_FILE} must hold an object")
    lock = cast("dict[str, Any]", content)
    # A service that is not released yet is not in the lock file. It then has the platform's version.
    new: dict[str, Any] = {record.image: {"version": lock["platform"], "digest": None} for record in SERVICES.values()}
    return {**lock, "images": dict(sorted({**new, **lock["images"]}.items()))}


def platform_version() -> str:
    """Version of the platform."""
    return str(_lock()["platform"])


def versions() -> dict[str, str]:
    """All pinned versions by part, such as "platform", "image router", "image kafka: debezium", "chart istiod"."""
    found = {"platform": platform_version()}
    found |= {f"image {name}": str(entry["version"]) for name, entry in _lock()["images"].items()}
    for name, parts in _lock()["within"].items():
        found |= {f"image {name}: {part}": str(pinned) for part, pinned in parts.items()}
    found |= {f"upstream {name}": str(entry["version"]) for name, entry in _lock()["upstream"].items()}
    found |= {f"plugin {name}": str(entry["version"]) for name, entry in _lock()["plugins"].items()}
    return found | {f"chart {name}": str(entry["version"]) for name, entry in _lock()["charts"].items()}


def _entry(section: str, name: str) -> Any:
    """An entry of a section of the lock file, whose name is a plural. Raises LockError if the file lacks it."""
    try:
        return _lock()[section][name]
    except KeyError:
        raise LockError(f'{LOCK_FILE} has no {section.removesuffix("s")} "{name}"') from None


def image(name: str) -> LockedImage:
    """The locked version and digest of an image. Raises LockError if the lock file lacks the name."""
    entry = _entry("images", name)
    return LockedImage(name, str(entry["version"]), entry.get("digest"), entry.get("former"))


def image_names() -> tuple[str, ...]:
    """Names of all images of the platform that run in pods."""
    return tuple(_lock()["images"])


def version(part: str) -> str:
    """The locked version of a third-party part. Raises LockError if the lock file lacks the name."""
    return str(_entry("parts", part))


@dataclass(frozen=True)
class Upstream:
    """An image of others that is neither built nor copied here."""

    name: str
    repository: str
    """Registry and path."""
    version: str
    digest: str | None
    """None: not known, which prevents a deployment of it."""

    @property
    def reference(self) -> str:
        """The image by digest; empty: the digest is not known."""
        return f"{self.repository}@{self.digest}" if self.digest else ""


def upstream(name: str) -> Upstream:
    """The pin of an image of others. Raises LockError for a name that the lock does not have."""
    entry = _entry("upstream", name)
    return Upstream(name, entry["image"], str(entry["version"]), entry["digest"])


def upstream_names() -> tuple[str, ...]:
    """Names of all images of others."""
    return tuple(_lock()["upstream"])


@dataclass(frozen=True)
class Plugin:
    """A plugin that a server fetches when it starts."""

    image: str
    program: str
    """Path of the program in the image."""
    version: str
    sha256: str | None
    """SHA-256 of the program; None if it is unknown, which prevents any deployment that needs it."""


def plugin(name: str) -> Plugin:
    """The pin of a plugin. Raises LockError for a name that the lock does not have."""
    entry = _entry("plugins", name)
    return Plugin(entry["image"], entry["program"], entry["version"], entry["sha256"])


@dataclass(frozen=True)
class Chart:
    """An upstream Helm chart."""

    name: str
    repository: str
    """URL of its repository: https or oci."""
    version: str


def chart(name: str) -> Chart:
    """The locked version and digest of a chart. Raises LockError if the lock file lacks the name."""
    entry = _entry("charts", name)
    return Chart(str(entry.get("chart", name)), str(entry["repository"]), str(entry["version"]))


def addon(name: str, kubernetes: str) -> str:
    """The locked version of an EKS add-on for a Kubernetes version. Raises LockError if there is none."""
    try:
        return str(_lock()["addons"][name][kubernetes])
    except KeyError:
        raise LockError(f'{LOCK_FILE} has no add-on "{name}" for Kubernetes {kubernetes}') from None
