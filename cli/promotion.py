"""`forge promote`: deploys the release of one environment to the next, if all conditions (gates) are met."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cli import documents, drift, stack, upgrade
from cli import preview as previews
from cli import status as status_view
from components import catalogue
from components.config.changes import changes
from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.transitions import Risk
from local.errors import LocalError

CHAIN = ("dev", "staging", "prod")
"""Stages, in the order of promotion."""


@dataclass(frozen=True)
class Gate:
    """One condition of a promotion."""

    name: str
    passed: bool
    found: str
    fix: str = ""


def next_environment(source: str, target: str | None = None) -> str:
    """Target of a promotion: the environment that is named after the next stage, or `target`, if it is of that stage.

    Raises LocalError if there is no such environment.
    """
    stage = stack.read_config(source).environment.value
    index = CHAIN.index(stage) if stage in CHAIN else len(CHAIN)
    if index + 1 >= len(CHAIN):
        raise LocalError(
            f'there is no stage after that of "{source}"',
            reason=f"its stage is {stage}",
            fix=f"promote an environment of stage {' or '.join(CHAIN[:-1])}",
        )
    following = CHAIN[index + 1]
    found = target or following
    if (actual := stack.read_config(found).environment.value) != following:
        raise LocalError(
            f"{source} cannot be promoted to {found}",
            reason=f"{source} is of stage {stage} and {found} of stage {actual}; {following} comes next",
            fix="name an environment of that stage with --to",
        )
    return found


def gates(source: str, target: str, soak: int, accept_manual: bool) -> list[Gate]:
    """Evaluate all conditions of a promotion. Without a deployment, conditions that need one are left out."""
    config = stack.read_config(source)
    deployed = stack.outputs(source).get("definition") if stack.exists(source) else None
    found = definition_gates(source, deployed, config)
    if deployed:
        found.append(soak_gate(source, history(source), soak, now()))
        rows = status_view.parts(None, config.cluster.context or None, [config.cluster.namespace])
        found.append(health_gate(source, [row.name for row in rows if not row.healthy]))
        found.append(drift_gate(source))
        stack.ensure(target)
        preview = previews.collect(target)
        previews.refuse_errors(preview)
        found.append(upgrade_gate(upgrade.check(target, preview), accept_manual))
    return found


def document(source: str, target: str, found: list[Gate], promoted: bool) -> documents.Promotion:
    """The gates as a JSON document."""
    shown = [documents.PromotionGate(name=g.name, passed=g.passed, found=g.found, fix=g.fix) for g in found]
    passed = all(gate.passed for gate in found)
    return documents.Promotion(source=source, target=target, passed=passed, promoted=promoted, gates=shown)


def definition_gates(source: str, deployed: dict[str, Any] | None, config: PlatformConfig) -> list[Gate]:
    """Gates: the source runs the versions and the definition that this checkout would deploy to the target."""
    if not deployed:
        return [Gate("deployed", False, f"{source} has never been deployed", f"run `forge up -s {source}`")]
    mine, theirs = catalogue.versions(), deployed.get("versions", {})
    other = sorted(part for part in mine.keys() | theirs.keys() if mine.get(part) != theirs.get(part))
    differing = [c.path for c in changes(parse(deployed["config"]), config)]
    fix = f"run `forge up -s {source}` from this checkout, or check out the release that runs there"
    return [
        Gate("same versions", not other, f"differ: {', '.join(other)}" if other else f"{len(mine)} parts", fix),
        Gate("same definition", not differing, f"differ: {', '.join(differing)}" if differing else "all fields", fix),
    ]


def soak_gate(source: str, history: list[dict[str, Any]], minutes: int, now: datetime) -> Gate:
    """Gate: the last update of the source succeeded, at least `minutes` ago. `history` has the newest update first."""
    updates = [entry for entry in history if entry.get("kind") == "update"]
    if not updates:
        return Gate("soaked", False, "no update on record", f"run `forge up -s {source}`")
    last = updates[0]
    if last["result"] != "succeeded":
        return Gate(
            "soaked", False, f"the last update {last['result']}", f"run `forge up -s {source}` until it succeeds"
        )
    age = (now - datetime.fromisoformat(last["endTime"].replace("Z", "+00:00"))).total_seconds() / 60
    fix = f"wait {minutes - age:.0f} more minutes, or lower --soak"
    return Gate("soaked", age >= minutes, f"{age:.0f} of {minutes} minutes since the last update", fix)


def health_gate(source: str, unhealthy: list[str]) -> Gate:
    """Gate: all parts of the source are healthy."""
    found = f"not healthy: {', '.join(unhealthy)}" if unhealthy else "every part"
    return Gate("healthy", not unhealthy, found, f"see `forge status -s {source}`")


def drift_gate(source: str) -> Gate:
    """Gate: the source has not drifted."""
    drifted = drift.find(source)
    found = f"{len(drifted)} resources drifted" if drifted else "as deployed"
    return Gate("no drift", not drifted, found, f"see `forge drift -s {source}`")


def upgrade_gate(verdict: upgrade.Verdict, accept_manual: bool) -> Gate:
    """Gate: the update of the target is safe, or its manual steps are accepted."""
    worst = verdict.risk
    passed = worst is Risk.SAFE or (worst is Risk.MANUAL and accept_manual)
    fix = f"see `forge upgrade-check -s {verdict.stack}`"
    if worst is Risk.MANUAL:
        fix += ", do its manual steps, then add --accept-manual"
    return Gate("target can take it", passed, worst.value, fix)


def history(name: str) -> list[dict[str, Any]]:
    """Updates of the stack, newest first; empty if the stack does not exist."""
    result = stack.capture("stack", "history", "--stack", name, "--json", "--full-dates")
    return json.loads(result.stdout) if result.returncode == 0 and result.stdout.strip().startswith("[") else []


def now() -> datetime:
    """The current time, with its time zone."""
    return datetime.now(UTC)
