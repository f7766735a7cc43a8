"""Rules between the section of OPA and the others."""

from __future__ import annotations

from collections.abc import Iterator

from components.config.gateway import GatewayEngine
from components.config.platform import Environment, PlatformConfig
from components.config.problems import Conflict, Location, did_you_mean
from components.services.registry import SERVICES


def conflicts(config: PlatformConfig) -> Iterator[Conflict]:
    """Every mistake in `security.opa` that the section alone does not show."""
    opa = config.security.opa
    if opa is None:
        return
    here: Location = ("security", "opa")
    engine_refused = config.environment is Environment.LOCAL  # for itself, with the same fix
    if config.gateway.engine is not GatewayEngine.ENVOY and not engine_refused:
        text = "allowed with gateway.engine: envoy only, which asks OPA"
        yield Conflict(here, "(an object)", text, "remove security.opa", ("gateway.engine",))
    if not config.around.keeper:
        keepers = ", ".join(f"services.{one.name}" for one in SERVICES.values() if one.keeps_keys)
        text = f"allowed with {keepers} only, which publishes whose a key is"
        yield Conflict(here, "(an object)", text, f"add {keepers}, or remove security.opa", ("services",))
    names = sorted({one.name for one in (*config.models, *config.routes)})
    for tenant, rules in sorted(opa.tenants.items()):
        for index, model in enumerate(rules.models):
            if model not in names:
                yield _unknown((*here, "tenants", tenant, "models", index), model, names)
        if rules.regions and not opa.regions:
            text = "allowed with security.opa.regions, which says where models run"
            fix = "add regions, or remove this field: the tenant could use no model"
            yield Conflict((*here, "tenants", tenant, "regions"), "(a list)", text, fix, ("security.opa.regions",))
    for model in sorted(opa.regions):
        if model not in names:
            yield _unknown((*here, "regions", model), model, names)


def _unknown(location: Location, name: str, names: list[str]) -> Conflict:
    fix = did_you_mean(name, names, "name one of them, or remove it")
    return Conflict(location, name, f"a model or a route: {', '.join(names)}", fix, ("models", "routes"))
