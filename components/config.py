"""The typed configuration of an environment: one file, all mistakes reported at once."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Self

from pydantic import model_validator

from components.config_base import (
    Change,
    DnsLabel,
    ModelName,
    Resources,
    Section,
    first_duplicate,
    matching,
    setting,
)
from components.config_data import Data, Storage
from components.config_eks import Eks
from components.config_external import External
from components.config_gateway import Gateway
from components.config_gpu import GpuPool
from components.config_mesh import Mesh
from components.config_problems import violation
from components.config_routes import Route
from components.config_routing import Routing
from components.config_serving import Serving


class Environment(StrEnum):
    """The four environments."""

    LOCAL = "local"
    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class ClusterKind(StrEnum):
    """Where the platform runs."""

    LOCAL = "local"
    """The Kubernetes node that `forge up` starts on this machine."""
    EXISTING = "existing"
    """A cluster that a kubeconfig context names."""
    EKS = "eks"
    """A cluster on AWS that the platform makes."""


class NetworkPolicies(StrEnum):
    """What the cluster's network does with NetworkPolicies."""

    ENFORCED = "enforced"
    """The network plugin enforces them; each update proves that with a pod without rights."""
    NOT_ENFORCED = "not-enforced"
    """Every pod of the cluster reaches every port of the platform. Nothing is proven."""


class ImageSource(StrEnum):
    """Where the platform's own images come from."""

    LOCAL_BUILD = "local-build"
    """Built, signed and pushed to a loopback registry by `forge up`."""
    REGISTRY = "registry"
    """Released images, by the digests in versions.lock.yaml."""


class LogLevel(StrEnum):
    """How much the services log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ModelEngine(StrEnum):
    """What serves a model."""

    SIMULATOR = "simulator"
    """llm-d's vLLM simulator: the API and the metrics without a model or a GPU."""
    VLLM = "vllm"
    """vLLM on GPUs, through KServe."""
    TGI = "tgi"
    """Hugging Face's Text Generation Inference on GPUs, through KServe."""


class Cluster(Section):
    """Where the platform runs."""

    kind: ClusterKind = setting(Change.IMMUTABLE, "local, existing or eks", strict=False)
    context: str = setting(Change.IMMUTABLE, "kubeconfig context of an existing cluster", default="", max_length=253)
    namespace: DnsLabel = setting(Change.IMMUTABLE, "Namespace of the platform", default="cogniforge")
    eks: Eks | None = setting(Change.IMMUTABLE, "The AWS cluster; with kind: eks only", default=None)
    network_policies: NetworkPolicies = setting(
        Change.SAFE,
        "enforced or not-enforced: whether the cluster's network keeps pods apart",
        default=NetworkPolicies.ENFORCED,
        strict=False,
    )
    gpu_pools: tuple[GpuPool, ...] = setting(
        Change.DISRUPTIVE, "Nodes with GPUs", default=(), max_length=20, strict=False
    )

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        if self.kind is ClusterKind.EXISTING and not self.context:
            raise violation("context is required when kind is existing", "name a context of your kubeconfig")
        if self.kind is not ClusterKind.EXISTING and self.context:
            raise violation(f"context has no meaning when kind is {self.kind}", "remove context, or set kind: existing")
        if (self.kind is ClusterKind.EKS) != (self.eks is not None):
            fix = "add eks with region and accountId" if self.eks is None else "remove eks, or set kind: eks"
            raise violation("eks belongs to kind: eks, and to no other", fix)
        if duplicate := first_duplicate(tuple(pool.name for pool in self.gpu_pools)):
            raise violation(f'names of gpuPools must be unique; "{duplicate}" is there twice', "rename one")
        return self


class Images(Section):
    """Where the platform's own images come from."""

    source: ImageSource = setting(Change.DISRUPTIVE, "local-build or registry", strict=False)
    registry: Annotated[
        str,
        matching(r"|[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*", "a registry host and path", 'write it like "ghcr.io/acme"'),
    ] = setting(Change.DISRUPTIVE, "Registry host and path that hold the released images", default="")

    @model_validator(mode="after")
    def _registry_fits(self) -> Self:
        if self.source is ImageSource.REGISTRY and not self.registry:
            raise violation("registry is required when source is registry", 'add it, such as "ghcr.io/acme"')
        return self


class Model(Section):
    """One model: what serves it, and how clients name it."""

    name: ModelName = setting(Change.DISRUPTIVE, "Name that clients use")
    engine: ModelEngine = setting(Change.DISRUPTIVE, "What serves it", default=ModelEngine.SIMULATOR, strict=False)
    replicas: int = setting(Change.SAFE, "Servers of this model", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="128Mi"))
    context_tokens: int = setting(Change.DISRUPTIVE, "Longest context in tokens", default=8192, ge=256, le=2_000_000)
    timeout_seconds: int = setting(Change.SAFE, "Limit of one answer", default=120, ge=1, le=3600)
    routing: Routing = setting(Change.SAFE, "Retries, time limits, fallbacks, cached answers", default=Routing())
    external: External | None = setting(Change.DISRUPTIVE, "A provider outside that serves it", default=None)
    serving: Serving | None = setting(Change.SAFE, "Weights, GPUs, scaling; else: simulator anywhere", default=None)
    first_token_milliseconds: int = setting(
        Change.SAFE, "Simulated time to the first token", default=0, ge=0, le=60_000
    )
    token_milliseconds: int = setting(Change.SAFE, "Simulated time between tokens", default=0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.external is not None and (self.serving is not None or self.engine is not ModelEngine.SIMULATOR):
            raise violation("a model is served outside or here", "remove external, or engine and serving")
        # The simulator can be served too: a rehearsal of scheduling and routing without weights.
        if self.engine is not ModelEngine.SIMULATOR and self.serving is None:
            fix = "add serving with weights and gpuPool, or set engine: simulator"
            raise violation(f"engine {self.engine.value} needs serving", fix)
        return self


class Router(Section):
    """The AI Router."""

    replicas: int = setting(Change.SAFE, "Replicas", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="100m", memory="256Mi"))


class Bundled(Section):
    """A bundled service."""

    replicas: int = setting(Change.SAFE, "Replicas", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="256Mi"))


class Login(Section):
    """Logins of people with an OpenID Connect provider, such as Keycloak."""

    issuer: Annotated[str, matching(r"https://[^\s]+", "an https URL", 'write it like "https://login.example.com"')] = (
        setting(Change.SAFE, "The provider's issuer")
    )
    client_id: str = setting(Change.SAFE, "The platform's name there", min_length=1, max_length=200)
    secret_name: DnsLabel = setting(
        Change.SAFE, "Secret in the platform's namespace; its entry \"secret\" is the client's"
    )


class UserQuotas(Section):
    """What a tenant may keep in User."""

    users: int = setting(Change.SAFE, "Users", default=10_000, ge=1, le=10_000_000)
    teams: int = setting(Change.SAFE, "Teams", default=1000, ge=1, le=1_000_000)
    keys: int = setting(Change.SAFE, "API keys that are valid", default=5000, ge=1, le=1_000_000)
    relations: int = setting(Change.SAFE, "Relations", default=100_000, ge=1, le=100_000_000)


class UserQuotasOf(UserQuotas):
    """What one tenant may keep in User, instead of what the others may."""

    tenant: DnsLabel = setting(Change.SAFE, "The tenant's id")


class User(Bundled):
    """Tenants, teams, users and their API keys."""

    quotas: UserQuotas = setting(Change.SAFE, "Of each tenant", default=UserQuotas())
    quotas_of: tuple[UserQuotasOf, ...] = setting(
        Change.SAFE, "Of tenants that may keep more, or less", default=(), max_length=1000, strict=False
    )

    login: Login | None = setting(Change.SAFE, "Where people log in", default=None)


class PromptQuotas(Section):
    """What a tenant may keep in Prompt."""

    prompts: int = setting(Change.SAFE, "Prompts", default=5000, ge=1, le=1_000_000)
    versions: int = setting(Change.SAFE, "Versions of all prompts", default=50_000, ge=1, le=100_000_000)
    labels: int = setting(Change.SAFE, "Labels of all prompts", default=20_000, ge=1, le=10_000_000)
    splits: int = setting(Change.SAFE, "Splits of all prompts", default=5000, ge=1, le=1_000_000)


class PromptQuotasOf(PromptQuotas):
    """What one tenant may keep in Prompt, instead of what the others may."""

    tenant: DnsLabel = setting(Change.SAFE, "The tenant's id")


class Guardrails(Bundled):
    """What must not go to a model, or come from it."""

    resources: Resources = setting(
        Change.SAFE,
        "Per replica; half of the memory is a worker's, which looks at large texts",
        default=Resources(cpu="50m", memory="512Mi"),
    )


class Prompt(Bundled):
    """Prompts with versions and labels."""

    quotas: PromptQuotas = setting(Change.SAFE, "Of each tenant", default=PromptQuotas())
    quotas_of: tuple[PromptQuotasOf, ...] = setting(
        Change.SAFE, "Of tenants that may keep more, or less", default=(), max_length=1000, strict=False
    )


class BillingRetention(Section):
    """For how many days Billing keeps what is in an invoice that is issued."""

    names_days: int = setting(Change.SAFE, "Who used what", default=400, ge=35, le=36_500)
    usage_days: int = setting(Change.SAFE, "Each single use", default=800, ge=35, le=36_500)
    invoices_days: int = setting(Change.SAFE, "Invoices and credits; ask your law", default=3660, ge=365, le=36_500)


class Billing(Bundled):
    """Meters, budgets, invoices."""

    retention: BillingRetention = setting(Change.SAFE, "How long things are kept", default=BillingRetention())


class AuditRetention(Section):
    """For how many days Audit keeps what entries tell; that something happened, and every proof, is kept for ever."""

    security_days: int = setting(
        Change.SAFE, "Tenants, keys, rights, policies, routes, operators' acts", default=3660, ge=35, le=36_500
    )
    money_days: int = setting(Change.SAFE, "Prices, credits, budgets, invoices", default=3660, ge=35, le=36_500)
    content_days: int = setting(Change.SAFE, "Prompts, documents, what Guardrails did", default=800, ge=35, le=36_500)
    usage_days: int = setting(Change.SAFE, "Each request to a model", default=400, ge=35, le=36_500)


class Audit(Bundled):
    """A log of all events that only grows."""

    retention: AuditRetention = setting(Change.SAFE, "How long contents are kept", default=AuditRetention())


class DocumentQuotas(Section):
    """What a tenant may keep in Retriever."""

    files: int = setting(Change.SAFE, "Files", default=10_000, ge=1, le=10_000_000)
    storage: Storage = setting(Change.SAFE, "Bytes of all files", default="2Gi")
    stores: int = setting(Change.SAFE, "Vector stores", default=1000, ge=1, le=1_000_000)
    passages: int = setting(Change.SAFE, "Passages of all stores", default=1_000_000, ge=1, le=1_000_000_000)


class Retriever(Bundled):
    """Documents, search, cited answers."""

    quotas: DocumentQuotas = setting(Change.SAFE, "Of each tenant", default=DocumentQuotas())


class Services(Section):
    """The bundled AI services. One that is not named is not made."""

    router: Router = setting(Change.SAFE, "One API in front of every model", default=Router())
    user: User | None = setting(Change.DISRUPTIVE, "Tenants and keys; services then ask for keys", default=None)
    prompt: Prompt | None = setting(Change.DISRUPTIVE, "Prompts with versions and labels", default=None)
    guardrails: Guardrails | None = setting(
        Change.DISRUPTIVE, "What must not go to a model, or come from it", default=None
    )
    embeddings: Bundled | None = setting(Change.DISRUPTIVE, "Vectors of texts", default=None)
    retriever: Retriever | None = setting(Change.DISRUPTIVE, "Documents, search, cited answers", default=None)
    billing: Billing | None = setting(Change.DISRUPTIVE, "Meters, budgets, invoices", default=None)
    audit: Audit | None = setting(Change.DISRUPTIVE, "A log of all events that only grows", default=None)

    @property
    def bundled(self) -> dict[str, Bundled]:
        """The services beside the router that there are, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields if name != "router"}
        return {name: service for name, service in found.items() if service is not None}


class Observability(Section):
    """Logs and traces."""

    log_level: LogLevel = setting(Change.SAFE, "How much is logged", default=LogLevel.INFO, strict=False)
    otlp_endpoint: Annotated[
        str,
        matching(r"|https?://[^\s/]+(:\d+)?", "an http(s) URL without a path", 'write "http://collector:4318"'),
    ] = setting(Change.SAFE, "Where traces go; empty: nowhere", default="")
    trace_sample_ratio: float = setting(Change.SAFE, "Share of requests traced", default=1.0, ge=0, le=1)
    prometheus_operator: bool = setting(
        Change.SAFE, "The cluster has the Prometheus operator: metrics, alerts and a dashboard for it", default=False
    )


class PlatformConfig(Section):
    """The whole configuration of an environment."""

    environment: Environment = setting(Change.IMMUTABLE, "local, dev, staging or prod", strict=False)
    owner: str = setting(Change.SAFE, "Who answers for this environment", min_length=1, max_length=63)
    cluster: Cluster = setting(Change.IMMUTABLE, "Where the platform runs")
    images: Images = setting(Change.DISRUPTIVE, "Where the platform's own images come from")
    gateway: Gateway = setting(Change.DISRUPTIVE, "The entrance")
    mesh: Mesh = setting(Change.DISRUPTIVE, "Mutual TLS between services", default=Mesh())
    models: tuple[Model, ...] = setting(
        Change.SAFE, "Models that clients can ask", min_length=1, max_length=100, strict=False
    )
    routes: tuple[Route, ...] = setting(
        Change.SAFE, "Names under which several models answer", default=(), max_length=100, strict=False
    )
    services: Services = setting(Change.SAFE, "The bundled AI services", default=Services())
    data: Data = setting(Change.SAFE, "Databases, messaging, cache, objects", default=Data())
    observability: Observability = setting(Change.SAFE, "Logs and traces", default=Observability())


def json_schema() -> str:
    """The JSON Schema for editors, as kept in stacks/platform.schema.json."""
    schema = PlatformConfig.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"
