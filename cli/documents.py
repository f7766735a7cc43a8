"""Documents of `--output json`, one per command. New versions may add fields, but never rename or remove them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from cli.document import Document
from cli.explained import Explanation


class CheckedThing(Document):
    """Result of one check of `doctor`."""

    name: str = Field(description="Name of the check")
    ok: bool
    required: bool = Field(description="Whether the local node needs it")
    found: str
    fix: str = Field(description="What to do; empty if nothing is to be done")


class WayToRun(Document):
    """A way to run the platform from this machine."""

    name: str = Field(description='"local node" or "existing cluster"')
    possible: bool
    what: str = Field(description="What is missing, or the command that starts it")


class Doctor(Document):
    """Document of `forge doctor`."""

    version: Literal[1] = 1
    ready: bool = Field(description="Whether at least one way is possible")
    ways: list[WayToRun]
    checks: list[CheckedThing]


class Workload(Document):
    """State of a process of the node, a part, or a task."""

    name: str
    version: str
    healthy: bool
    health: str = Field(description='State, such as "healthy (2/2)" or "not ready (0/1)"')
    image: str = Field(description="Image without its registry; empty for a process of the node")
    cpu_millicores: int | None = Field(description="Current usage; null if there are no metrics")
    memory_mib: int | None = Field(description="Current usage; null if there are no metrics")
    details: list[str] = Field(description="Reasons why it is not healthy, by pod")


class Status(Document):
    """Document of `forge status`."""

    version: Literal[1] = 1
    stack: str
    healthy: bool = Field(description="Whether all parts are healthy and no task has failed")
    node: list[Workload] = Field(description="Processes of the local node; empty for other clusters")
    parts: list[Workload]
    tasks: list[Workload] = Field(description="Jobs that set up or check a part")
    plugins: dict[str, str] = Field(description='"real" or "stand-in", by name of the Pulumi plugin')


class PartFootprint(Document):
    """Figures of a part: sums over its pods."""

    name: str
    pods: int
    cpu_millicores: int = Field(description="Mean usage while it was measured")
    memory_mib: int = Field(description="Working set at the end")
    disk_mib: int = Field(description="Used space of its volumes")
    image_mib: int = Field(description="Size of its images on the node")
    start_seconds: int | None = Field(description="From the start of the containers until ready; null if not ready")


class TelemetryVolume(Document):
    """Bytes of telemetry of a part."""

    part: str
    signal: Literal["logs", "metrics", "traces"]
    idle_bytes_per_second: float = Field(description="Without requests")
    bytes_per_request: int = Field(description="In addition, for each chat request")


class FootprintDocument(Document):
    """Document of `forge footprint`."""

    version: Literal[1] = 1
    stack: str
    profile: Literal["core", "standard", "full"] | None = Field(description="null without a profile")
    seconds: float = Field(description="How long CPU usage was measured")
    image_mib: int = Field(description="Size of all images; one that several parts run counts once")
    parts: list[PartFootprint]
    telemetry: list[TelemetryVolume] = Field(description="Empty unless requests were asked for")


class RaisedAlert(Document):
    """An alert that fires or is about to."""

    name: str
    severity: str = Field(description='"page" or "ticket"')
    state: str = Field(description='"firing", or "pending" while its condition holds not long enough yet')
    since: datetime = Field(description="When its condition became true")
    summary: str
    labels: dict[str, str] = Field(description="Labels of the series that raised it")


class Alerts(Document):
    """Document of `forge alerts`."""

    version: Literal[1] = 1
    stack: str
    alerts: list[RaisedAlert] = Field(description="Firing ones first")


class AlertRunbook(Document):
    """Document of `forge runbook`."""

    version: Literal[1] = 1
    alert: str
    severity: str = Field(description='"page" or "ticket"')
    lasts: str = Field(description='Duration for which the condition must hold, such as "5m"')
    condition: str = Field(description="PromQL expression that is true while something is wrong")
    summary: str = Field(description="What is wrong; words in capitals are labels of the raised alert")
    cause: str = Field(description="Usual causes, the most frequent one first")
    checks: list[str] = Field(description="Commands that show the cause and change nothing")
    fix: str = Field(description="How to remove the cause")


class LoggedLine(Document):
    """A line of the log of a container; with --follow, each is a document."""

    time: str = Field(description="When the container wrote it, by its node's clock: RFC 3339, UTC, with nanoseconds")
    namespace: str
    pod: str
    container: str
    stream: str = Field(description='"stdout" or "stderr"')
    service: str = Field(description="Name of the part")
    level: str = Field(description='"debug", "info", "warning", "error" or "critical"; empty if the line has none')
    tenant: str = Field(description="ID of the tenant; empty if the line has none")
    trace: str = Field(description="ID of the trace; empty if the line has none")
    text: str = Field(description="The line, without secrets")


class LoggedLines(Document):
    """Document of `forge logs --output json`."""

    version: Literal[1] = 1
    stack: str
    lines: list[LoggedLine] = Field(description="The newest lines that fit, oldest first")


class Change(Document):
    """One resource that an update would change."""

    operation: str = Field(description='Pulumi\'s name of the operation, such as "create" or "replace"')
    type: str
    name: str
    part: str = Field(description="The component that it belongs to")
    fields: list[str] = Field(description="Changed fields")
    replacing: list[str] = Field(description="Fields whose change forces the replacement")


class Objection(Document):
    """A policy that a resource violates."""

    rule: str
    level: Literal["mandatory", "advisory"]
    resource: str
    urn: str
    message: str


class PartFinding(Document):
    """Effect of an update on one part."""

    part: str
    risk: Literal["safe", "manual-steps", "blocked"]
    what: str
    todo: str
    way_back: str


class Upgrade(Document):
    """Document of `forge upgrade-check`."""

    version: Literal[1] = 1
    stack: str
    deployed: bool = Field(description="Whether there is a deployment to compare with")
    risk: Literal["safe", "manual-steps", "blocked"] = Field(description="The highest risk of all findings")
    cost: str = Field(description="Price of GPU nodes in USD per hour, now and before; empty without GPU nodes")
    findings: list[PartFinding]


class Preview(Document):
    """Document of `forge preview`."""

    version: Literal[1] = 1
    stack: str
    refused: bool = Field(description="Whether `forge up` would refuse this update")
    unchanged: int
    changes: list[Change]
    policies: list[Objection]
    unreleased_images: list[str] = Field(description="Images without a digest")
    errors: list[str]
    costs: list[str]
    upgrade: Upgrade


class DriftedResource(Document):
    """A resource that differs from its last deployment."""

    operation: Literal["update", "delete"] = Field(description='"update": changed; "delete": deleted')
    type: str
    name: str
    part: str
    fields: list[str]


class Drift(Document):
    """Document of `forge drift`."""

    version: Literal[1] = 1
    stack: str
    resources: list[DriftedResource] = Field(description="Resources that differ from the last deployment")


class PromotionGate(Document):
    """One condition of a promotion."""

    name: str
    passed: bool
    found: str
    fix: str


class Promotion(Document):
    """Document of `forge promote`."""

    version: Literal[1] = 1
    source: str
    target: str
    passed: bool = Field(description="Whether all conditions are met")
    promoted: bool = Field(description="Whether the target was updated")
    gates: list[PromotionGate]


class BuiltImage(Document):
    """One image of this checkout, or of the environment's own services."""

    name: str
    reference: str
    digest: str
    signed: bool


class Images(Document):
    """Document of `forge images`."""

    version: Literal[1] = 1
    images: list[BuiltImage]


class FailedClaim(Document):
    """A claim about an image that does not hold."""

    claim: Literal["digest", "signature", "provenance", "SBOM", "age"]
    reason: str
    fix: str


class RunningImage(Document):
    """One image that runs in an environment."""

    reference: str
    origin: Literal["built here", "lock", "configured", "foreign", "unknown"] = Field(
        description='Where its digest is recorded; "foreign" and "unknown": nowhere'
    )
    pods: list[str] = Field(description="Containers that run it, as namespace/pod/container")
    built: str = Field(description="Time of the build by its provenance, in ISO 8601; empty if there is none")
    commit: str = Field(description="Commit of the sources by its provenance; empty if there is none")
    modified: bool = Field(description="Whether the sources had uncommitted changes")
    components: int | None = Field(description="Number of components in its SBOM; null if there is none")
    failures: list[FailedClaim]


class Verification(Document):
    """Document of `forge verify`."""

    version: Literal[1] = 1
    stack: str
    verified: bool = Field(description="Whether no claim about an image fails")
    images: list[RunningImage]


class RotatedSecret(Document):
    """A secret of the environment."""

    name: str = Field(description="<system>/<login>")
    schedule: str = Field(description='When it is rotated without a command; "none": never')
    last: str | None = Field(description="Time of the last rotation by a command; null if there was none")
    logins: int = Field(description="Logins in use; 0 if they are not counted")
    rotated: bool = Field(description="Whether this command has rotated it")
    reason: str = Field(description="Why it cannot be rotated without a restart, or why that failed; or empty")


class Rotation(Document):
    """Document of `forge rotate`."""

    version: Literal[1] = 1
    secrets: list[RotatedSecret]


class GrantedAccess(Document):
    """Something that somebody can do."""

    who: str
    action: str
    target: str
    allowed_by: str = Field(description="The rendered object that allows it")


class AccessCounterexample(Document):
    """An access for which a layer and the records disagree."""

    kind: Literal["excess", "missing"] = Field(
        description='"excess": possible, but no record asks for it; "missing": a record asks for it, but it is denied'
    )
    who: str
    action: str
    target: str
    because: str = Field(description="The object that allows the access, or the record that asks for it")
    object: str = Field(description="The object to change")


class AccessLayer(Document):
    """One way in which the environment limits access, such as NetworkPolicies."""

    name: str
    title: str
    accesses: list[GrantedAccess] = Field(description="All accesses that the layer allows; empty without the layer")
    counterexamples: list[AccessCounterexample]


class AccessProof(Document):
    """Document of `forge prove`."""

    version: Literal[1] = 1
    stack: str
    proven: bool = Field(description="Whether there are no counterexamples")
    layers: list[AccessLayer]


class Environment(Document):
    """Document of `forge env`."""

    version: Literal[1] = 1
    stack: str
    url: str = Field(description="Base URL of the OpenAI API; ends with /v1")
    key: str = Field(description="The installation key, an API key with all rights")
    key_file: str = Field(description="File with the key, readable by its owner only")
    authority_file: str = Field(description="File with the environment's CA certificate, for `curl --cacert`")


DOCUMENTS: dict[str, type[Document]] = {
    "doctor": Doctor,
    "alerts": Alerts,
    "drift": Drift,
    "env": Environment,
    "explain": Explanation,
    "footprint": FootprintDocument,
    "images": Images,
    "logs": LoggedLines,
    "preview": Preview,
    "promote": Promotion,
    "prove": AccessProof,
    "runbook": AlertRunbook,
    "status": Status,
    "upgrade-check": Upgrade,
    "verify": Verification,
}
"""Document class by command."""
