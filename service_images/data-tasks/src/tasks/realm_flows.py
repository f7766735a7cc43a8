"""Flows of a realm: the steps of logins through other providers.

Keycloak has no attributes of flows, so the description says which ones the task has made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.common import Problem
from tasks.keycloak import Json, Keycloak
from tasks.realm_differences import OWNED, Difference, quoted, removal

_BASIC = "basic-flow"
Line = tuple[int, str, str, str]
"""Depth, authenticator or flow, requirement, and settings of a step."""


def needed(keycloak: Keycloak, base: str, wanted: Mapping[str, list[Json]]) -> Iterator[Difference]:
    """Flows that are missing, or have other steps."""
    present = _present(keycloak, base)
    for name, steps in wanted.items():
        if name not in present:
            yield Difference(
                f"flow {name}", "add", (), lambda name=name, steps=steps: _make(keycloak, base, name, steps)
            )
            continue
        if present[name].get("description") != OWNED:
            raise Problem(f'the flow "{name}" exists and was not made by this task: rename or remove it')
        there, asked = list(_lines_of(keycloak, base, name)), list(_lines(steps))
        if there != asked:
            fields = (f"steps: {_shown(there)} -> {_shown(asked)}",)
            yield Difference(
                f"flow {name}",
                "change",
                fields,
                lambda name=name, steps=steps: _make_anew(keycloak, base, name, steps),
            )


def unwanted(keycloak: Keycloak, base: str, wanted: Mapping[str, list[Json]]) -> Iterator[Difference]:
    """Flows that the task has made and nobody declares. Nothing may use them any more."""
    for name, flow in _present(keycloak, base).items():
        if name not in wanted and flow.get("description") == OWNED:
            yield removal(keycloak, f"flow {name}", f"{base}/authentication/flows/{flow['id']}")


def _present(keycloak: Keycloak, base: str) -> dict[str, Json]:
    listed: Any = keycloak.get(f"{base}/authentication/flows") or []
    return {one["alias"]: one for one in listed}


def _steps_of(keycloak: Keycloak, base: str, name: str) -> list[Json]:
    """All steps, those of inner flows after their flow."""
    found: Any = keycloak.get(f"{base}/authentication/flows/{quoted(name)}/executions")
    return found or []


def _lines_of(keycloak: Keycloak, base: str, name: str) -> Iterator[Line]:
    for one in _steps_of(keycloak, base, name):
        inner = one.get("authenticationFlow")
        config: Json = {}
        if number := one.get("authenticationConfig"):
            config = (keycloak.get(f"{base}/authentication/config/{number}") or {}).get("config") or {}
        yield one["level"], one["displayName"] if inner else one["providerId"], one["requirement"], _text(config)


def _lines(steps: Sequence[Json], depth: int = 0) -> Iterator[Line]:
    for one in steps:
        yield depth, one.get("flow") or one["authenticator"], one["requirement"], _text(one.get("config", {}))
        yield from _lines(one.get("steps", ()), depth + 1)


def _text(config: Json) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(config.items()))


def _shown(lines: Sequence[Line]) -> str:
    return ", ".join(f"{name} {requirement}{f' {config}' if config else ''}" for _, name, requirement, config in lines)


def _make(keycloak: Keycloak, base: str, name: str, steps: Sequence[Json]) -> None:
    body = {"alias": name, "providerId": _BASIC, "topLevel": True, "builtIn": False, "description": OWNED}
    keycloak.send("POST", f"{base}/authentication/flows", body)
    _fill(keycloak, base, name, name, steps)


def _make_anew(keycloak: Keycloak, base: str, name: str, steps: Sequence[Json]) -> None:
    """Replace all steps. The flow itself may be in use, so it stays."""
    for one in _steps_of(keycloak, base, name):
        if one["level"] == 0:
            keycloak.send("DELETE", f"{base}/authentication/executions/{one['id']}")
    _fill(keycloak, base, name, name, steps)


def _fill(keycloak: Keycloak, base: str, top: str, name: str, steps: Sequence[Json]) -> None:
    """Add steps to the flow `name`, which is `top` or inside it."""
    for one in steps:
        known = {step["id"] for step in _steps_of(keycloak, base, top)}
        place = f"{base}/authentication/flows/{quoted(name)}/executions"
        if "flow" in one:
            keycloak.send("POST", f"{place}/flow", {"alias": one["flow"], "type": _BASIC, "description": OWNED})
        else:
            keycloak.send("POST", f"{place}/execution", {"provider": one["authenticator"]})
        (made,) = [step for step in _steps_of(keycloak, base, top) if step["id"] not in known]
        keycloak.send("PUT", place, {**made, "requirement": one["requirement"]})
        if config := one.get("config"):
            body = {"alias": f"{name} {one['authenticator']}", "config": config}
            keycloak.send("POST", f"{base}/authentication/executions/{made['id']}/config", body)
        if "flow" in one:
            _fill(keycloak, base, top, one["flow"], one["steps"])
