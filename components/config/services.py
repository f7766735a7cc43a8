"""The bundled AI services."""

from __future__ import annotations

from typing import Annotated

from components.config.base import Change, DnsLabel, Resources, Section, matching, setting
from components.config.data import Storage


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
