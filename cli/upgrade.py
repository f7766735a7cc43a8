"""`forge upgrade-check`: effects of an update on a running environment, by part, and the rollback plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from cli import documents, stack
from cli.steps import REPLACING, Preview, Step
from components import catalogue, event_schemas, versions
from components.config.base import Change
from components.config.changes import Changed, changes
from components.config.data import shrunk
from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.config.problems import ConfigError
from components.data.holders import held_by
from components.transitions import Risk

_ORDER = (Risk.SAFE, Risk.MANUAL, Risk.BLOCKED)
_MARKS = {Change.SAFE: Risk.SAFE, Change.DISRUPTIVE: Risk.MANUAL, Change.IMMUTABLE: Risk.BLOCKED}
KUBERNETES_VERSION = "cluster.eks.version"


@dataclass(frozen=True)
class Finding:
    """Effect of the update on one part."""

    part: str
    risk: Risk
    what: str
    todo: str = ""
    way_back: str = ""


@dataclass
class Verdict:
    """Effects of the whole update."""

    stack: str
    deployed: bool
    """Whether there is a deployment to compare with."""
    findings: list[Finding] = field(default_factory=list[Finding])
    cost: str = ""
    """Price of GPU nodes before and after, as text; empty without GPU nodes."""

    @property
    def risk(self) -> Risk:
        """The highest risk of all parts."""
        return max((f.risk for f in self.findings), key=_ORDER.index, default=Risk.SAFE)

    @property
    def blocked(self) -> bool:
        """Whether `forge up` refuses the update."""
        return self.risk is Risk.BLOCKED


def check(name: str, preview: Preview | None = None) -> Verdict:
    """Compare the stack's last deployment with the definition in this checkout.

    Without a preview, only configuration and versions are compared; with a preview, resources, too.
    """
    config = stack.read_config(name)
    before = stack.outputs(name).get("definition") if stack.exists(name) else None
    verdict = Verdict(name, before is not None, cost=cost_change(before, config))
    if before is not None:
        verdict.findings += definition_findings(before, config)
    if preview is not None:
        verdict.findings += step_findings(preview.steps)
    verdict.findings.sort(key=lambda f: (-_ORDER.index(f.risk), f.part, f.what))
    return verdict


def definition_findings(before: dict[str, Any], config: PlatformConfig) -> list[Finding]:
    """Findings for differences of configuration and versions."""
    found = [_version_finding(m) for m in versions.moves(before.get("versions", {}), catalogue.versions())]
    try:
        old = parse(before["config"])
    except (ConfigError, KeyError) as error:
        reason = str(error).splitlines()[0]
        todo = "compare the stack's output `definition` with the stack file by hand"
        return [
            *found,
            Finding("configuration", Risk.MANUAL, f"the deployed configuration cannot be read: {reason}", todo),
        ]
    found += [_config_finding(change, old, config) for change in changes(old, config)]
    if old.data.schema_registry and "schemas" in before:
        found += _schema_findings(before["schemas"], old, config)
    return found


def _schema_findings(before: Mapping[str, Any], old: PlatformConfig, config: PlatformConfig) -> list[Finding]:
    """Findings for incompatible changes of events, of the platform's and of own topics."""
    was, now = (event_schemas.own(one.around.records.values()) for one in (old, config))
    platform = {topic: schema for topic, schema in before.items() if topic not in was}
    return [
        Finding(
            "schema-registry",
            Risk.BLOCKED,
            f"{topic}: {reason}",
            "undo it, or give the event a new version with a topic of its own",
            f"restore the schema of {topic} and run `forge up`",
        )
        for topic, reason in [
            *event_schemas.findings(platform, event_schemas.current()),
            *event_schemas.own_findings(was, now),
        ]
    ]


def cost_change(before: dict[str, Any] | None, config: PlatformConfig) -> str:
    """Price of GPU nodes in USD per hour, for minNodes to maxNodes, now and before, as text."""
    try:
        old = parse(before["config"]) if before else None
    except (ConfigError, KeyError):
        old = None
    now, then = _gpu_usd(config), _gpu_usd(old) if old else None
    if now == "0.00" and then in (None, "0.00"):
        return ""
    if then == now:
        return f"GPU nodes: {now} USD per hour, as before"
    return f"GPU nodes: {now} USD per hour" + (f"; before: {then}" if then is not None else "")


def _gpu_usd(config: PlatformConfig) -> str:
    ranges = [pool.hourly_range_usd() for pool in config.cluster.gpu_pools]
    low, high = sum((r[0] for r in ranges), Decimal()), sum((r[1] for r in ranges), Decimal())
    return f"{low:.2f} to {high:.2f}" if low != high else f"{high:.2f}"


def _version_finding(move: versions.Move) -> Finding:
    todo = "" if move.risk is Risk.SAFE else move.notes
    return Finding(move.part, move.risk, f"{move.before} -> {move.after}", todo, move.way_back)


def _config_finding(change: Changed, old: PlatformConfig, new: PlatformConfig) -> Finding:
    if change.path == KUBERNETES_VERSION:
        return _version_finding(versions.kubernetes(str(change.before), str(change.after)))
    if change.path.startswith("data.") and change.path.endswith(".storage"):
        return _volume_finding(change, shrinks=change.path in shrunk(old.data, new.data))
    if change.path == "mesh.authorities" and old.own_mesh and new.own_mesh:
        return _authorities_finding(change, overlaps=new.mesh.overlaps(old.mesh))
    part = change.path.split(".")[0].split("[")[0]
    what = f"{change.path}: {_short(change.before)} -> {_short(change.after)}"
    todo = {
        Change.SAFE: "",
        Change.DISRUPTIVE: "requests may fail while the change is applied; choose a time with little traffic",
        Change.IMMUTABLE: "restore the old value; to change it, create a new environment and migrate to it",
    }[change.mark]
    return Finding(part, _MARKS[change.mark], what, todo, f"restore {change.path} and run `forge up`")


def _authorities_finding(change: Changed, *, overlaps: bool) -> Finding:
    """Finding for other authorities of the mesh. All pods restart one by one, while some have the old ones."""
    what = f"{change.path}: {_short(change.before)} -> {_short(change.after)}"
    back = f"restore {change.path} and run `forge up`"
    if overlaps:
        return Finding("mesh", Risk.SAFE, what, "", back)
    todo = "pods would refuse each other: add the new name after the old one, `forge up`, then swap them, `forge up`"
    return Finding("mesh", Risk.BLOCKED, what, todo, back)


def _volume_finding(change: Changed, *, shrinks: bool) -> Finding:
    """Finding for a changed volume size. Volumes can grow, but not shrink."""
    what = f"{change.path}: {change.before} -> {change.after}"
    if shrinks:
        return Finding("data", Risk.BLOCKED, what, f"a volume cannot shrink; restore {change.before}")
    return Finding("data", Risk.SAFE, what, "", "not needed: a volume keeps its size")


def _short(value: object) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def step_findings(steps: Iterable[Step]) -> list[Finding]:
    """Findings for replacements and deletions of resources. Changes in place are safe."""
    found: list[Finding] = []
    changed: dict[str, int] = {}
    for step in steps:
        gone, replaced = step.operation in ("delete", "discard"), step.operation in REPLACING
        if step.operation in ("create-replacement", "delete-replaced"):
            continue  # halves of a "replace"
        if not gone and not replaced:
            changed[step.part] = changed.get(step.part, 0) + 1
            continue
        why = f" ({', '.join(step.replacing)})" if step.replacing else ""
        what = f"{step.operation} {step.type} {step.name}{why}"
        if data := held_by(step.type):
            todo = f"the resource holds {data}: move the data first, then unprotect the resource and delete it by hand"
            found.append(Finding(step.part, Risk.BLOCKED, what, todo, "only from a backup"))
        elif replaced:
            todo = "the resource is unavailable in between; choose a time with little traffic"
            found.append(Finding(step.part, Risk.MANUAL, what, todo, "`git revert` and `forge up`"))
        else:
            found.append(Finding(step.part, Risk.SAFE, what, "", "`git revert` and `forge up` create it again"))
    for part, count in changed.items():
        plural = "s" if count > 1 else ""
        what = f"{count} resource{plural} created or changed in place"
        found.append(Finding(part, Risk.SAFE, what, "", "`git revert` and `forge up`"))
    return found


def document(verdict: Verdict) -> documents.Upgrade:
    """The verdict as a JSON document."""
    found = [
        documents.PartFinding(part=f.part, risk=f.risk.value, what=f.what, todo=f.todo, way_back=f.way_back)
        for f in verdict.findings
    ]
    return documents.Upgrade(
        stack=verdict.stack, deployed=verdict.deployed, risk=verdict.risk.value, cost=verdict.cost, findings=found
    )


def markdown(verdict: Verdict) -> str:
    """The verdict by part and the rollback plan, as Markdown."""
    lines = [f"### Upgrade of `{verdict.stack}`: {verdict.risk.value}", ""]
    if verdict.cost:
        lines += [f"{verdict.cost}.", ""]
    if not verdict.deployed:
        return "\n".join([*lines, "Nothing is deployed yet; all resources are new.", ""])
    if not verdict.findings:
        return "\n".join([*lines, "Nothing changes.", ""])
    lines += ["| Part | Verdict | Change | To do |", "|---|---|---|---|"]
    lines += [f"| {f.part} | {f.risk.value} | {_cell(f.what)} | {_cell(f.todo)} |" for f in verdict.findings]
    return "\n".join([*lines, "", *way_back(verdict)])


def way_back(verdict: Verdict) -> list[str]:
    """The rollback plan: what to save before the update, and how to roll back."""
    save = f"`pulumi stack export --stack {verdict.stack} --file before.json` saves the state"
    lines = [
        "<details><summary>Rollback</summary>",
        "",
        f"1. Before the update: {save}.",
        "2. To roll back, in this order:",
    ]
    plans: dict[str, list[str]] = {}
    for finding in verdict.findings:
        plans.setdefault(finding.way_back, []).append(finding.part)
    irreversible = sorted(plans, key=lambda plan: not plan.startswith(("none", "only")))
    for plan in irreversible:
        lines.append(f"   - {', '.join(sorted(set(plans[plan])))}: {plan}.")
    return [
        *lines,
        f"3. `forge upgrade-check -s {verdict.stack}` must then report that nothing changes.",
        "",
        "</details>",
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
