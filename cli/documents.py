"""What `--output json` prints: one document a command. Fields are added, but never renamed or removed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """Base of all documents: names are camelCase, as in the stack files."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True, extra="forbid")


class CheckedThing(Document):
    """One thing that `doctor` checked."""

    name: str = Field(description="What was checked")
    ok: bool
    required: bool = Field(description="Whether the local node needs it")
    found: str
    fix: str = Field(description="What to do; empty where nothing is to be done")


class WayToRun(Document):
    """A way in which this machine can bring the platform up."""

    name: str = Field(description='"local node" or "existing cluster"')
    possible: bool
    what: str = Field(description="What it lacks, or how to go it")


class Doctor(Document):
    """`forge doctor`."""

    version: Literal[1] = 1
    ready: bool = Field(description="Whether any of the ways is possible")
    ways: list[WayToRun]
    checks: list[CheckedThing]


class Workload(Document):
    """A process of the node, a part, or a task."""

    name: str
    version: str
    healthy: bool
    health: str = Field(description='Such as "healthy (2/2)" or "not ready (0/1)"')
    image: str = Field(description="Without its registry; empty for a process of the node")
    cpu_millicores: int | None = Field(description="Used now; null where the metrics are not known")
    memory_mib: int | None = Field(description="Used now; null where the metrics are not known")
    details: list[str] = Field(description="Why it is not healthy, by pod")


class Status(Document):
    """`forge status`."""

    version: Literal[1] = 1
    stack: str
    healthy: bool = Field(description="Whether everything works; tasks that failed count")
    node: list[Workload] = Field(description="Processes of the local node; empty for other clusters")
    parts: list[Workload]
    tasks: list[Workload] = Field(description="Jobs that prepare or prove something")
    plugins: dict[str, str] = Field(description='"real" or "stand-in", by the name of the Pulumi plugin')


class Change(Document):
    """One resource that an update would change."""

    operation: str = Field(description='Pulumi\'s name, such as "create" or "replace"')
    type: str
    name: str
    part: str = Field(description="The component that it belongs to")
    fields: list[str] = Field(description="Changed fields")
    replacing: list[str] = Field(description="Fields whose change forces the replacement")


class Objection(Document):
    """A policy that objects to a resource."""

    rule: str
    level: Literal["mandatory", "advisory"]
    resource: str
    urn: str
    message: str


class PartFinding(Document):
    """What an update means for one part."""

    part: str
    risk: Literal["safe", "manual-steps", "blocked"]
    what: str
    todo: str
    way_back: str


class Upgrade(Document):
    """`forge upgrade-check`."""

    version: Literal[1] = 1
    stack: str
    deployed: bool = Field(description="Whether there is a deployment to compare with")
    risk: Literal["safe", "manual-steps", "blocked"] = Field(description="The worst of all findings")
    cost: str = Field(description="GPU nodes in USD an hour, now and before; empty where there are none")
    findings: list[PartFinding]


class Preview(Document):
    """`forge preview`."""

    version: Literal[1] = 1
    stack: str
    refused: bool = Field(description="Whether `forge up` would refuse this update")
    unchanged: int
    changes: list[Change]
    policies: list[Objection]
    unreleased_images: list[str] = Field(description="Images that have no digest yet")
    errors: list[str]
    costs: list[str]
    upgrade: Upgrade


class DriftedResource(Document):
    """A resource that is not as it was deployed."""

    operation: Literal["update", "delete"] = Field(description='"update": changed; "delete": gone')
    type: str
    name: str
    part: str
    fields: list[str]


class Drift(Document):
    """`forge drift`."""

    version: Literal[1] = 1
    stack: str
    resources: list[DriftedResource] = Field(description="Empty where everything is as it was deployed")


class PromotionGate(Document):
    """One condition of a promotion."""

    name: str
    passed: bool
    found: str
    fix: str


class Promotion(Document):
    """`forge promote`."""

    version: Literal[1] = 1
    source: str
    target: str
    passed: bool = Field(description="Whether all gates are open")
    promoted: bool = Field(description="Whether the target was updated")
    gates: list[PromotionGate]


class BuiltImage(Document):
    """One image of this checkout."""

    name: str
    reference: str
    digest: str
    signed: bool


class Images(Document):
    """`forge images`."""

    version: Literal[1] = 1
    images: list[BuiltImage]


class Environment(Document):
    """`forge env`."""

    version: Literal[1] = 1
    stack: str
    url: str = Field(description="Of the OpenAI API; ends with /v1")
    key: str = Field(description="The operator's API key")
    key_file: str = Field(description="File that holds the key, readable by its owner only")
    authority_file: str = Field(description="Certificate of the environment's authority, for `curl --cacert`")


DOCUMENTS: dict[str, type[Document]] = {
    "doctor": Doctor,
    "drift": Drift,
    "env": Environment,
    "images": Images,
    "preview": Preview,
    "promote": Promotion,
    "status": Status,
    "upgrade-check": Upgrade,
}
"""The document of each command that has one."""
