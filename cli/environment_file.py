"""Writes the stack file of a new environment from a few answers. All other fields keep the schema's defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from cli import stack
from cli.options import environments
from components.config import names
from components.config.cluster import ClusterKind
from components.config.parse import parse
from components.config.platform import Environment
from components.config.problems import ConfigError
from components.config.profile import Profile
from components.config.services import Services
from components.services.registry import DOCUMENTS, SERVICES
from local import paths
from local.errors import LocalError

_ENVIRONMENT = re.compile(r" +environment: *[a-z]+ *(#.*)?$")
_PROFILE = re.compile(r" +profile: *[a-z]+ *(#.*)?$")
_HEADER = "# yaml-language-server: $schema=pulumi-stack.schema.json\n"


class Size(StrEnum):
    """Size of an environment: replicas and volumes. All figures can be changed in the file."""

    SMALL = "small"
    """For trials: one replica of each service, or two in production."""
    MEDIUM = "medium"
    """For several teams: two replicas of each service, three of each data server."""
    LARGE = "large"
    """For a company: three replicas of each, and volumes for months of events."""


@dataclass(frozen=True)
class _Figures:
    services: int
    """Replicas of each service."""
    servers: int
    """Replicas of each data server with a quorum: an odd number."""
    storage: str
    memory: str
    """Size of the volumes of PostgreSQL and Kafka."""


_SIZES = {
    Size.SMALL: _Figures(1, 1, "20Gi", "1Gi"),
    Size.MEDIUM: _Figures(2, 3, "100Gi", "4Gi"),
    Size.LARGE: _Figures(3, 3, "500Gi", "16Gi"),
}
_LOCAL = _Figures(1, 1, "4Gi", "768Mi")


@dataclass(frozen=True)
class Answers:
    """Answers that describe a new environment."""

    name: str
    kind: ClusterKind
    stage: Environment
    size: Size = Size.SMALL
    owner: str = "platform-team"
    hosts: tuple[str, ...] = ("localhost",)
    registry: str = ""
    context: str = ""
    region: str = ""
    account_id: str = ""
    admins: tuple[str, ...] = field(default=())
    vpc_cidr: str = "10.20.0.0/16"
    port: int = 443
    built: bool = False
    """Whether its images are built on this machine."""


def _offered() -> list[str]:
    """Services that a new environment begins with; others are added to its file by hand."""
    return [name for name in Services.model_fields if name in SERVICES and not SERVICES[name].asked]


def refuse_existing(name: str) -> Path:
    """Path of the new file. Raises LocalError if the file exists or the name is invalid."""
    try:
        names.check(name)
    except ConfigError as error:
        raise LocalError(f'"{name}" is not a valid name for an environment', reason=error.problems[0].limit) from None
    file = stack.config_file(name)
    if file.exists():
        raise LocalError(
            f"stacks/{file.name} exists already; nothing was written",
            fix=f"edit it, or choose another name than {', '.join(environments())}",
        )
    return file


def write(answers: Answers) -> Path:
    """Write the file. Raises LocalError if the file exists, or with all problems of the answers."""
    file = refuse_existing(answers.name)
    content = definition(answers)
    try:
        parse(content)
    except ConfigError as error:
        raise LocalError(
            f"the answers for {answers.name} are not a valid configuration: {error}",
            fix="change the answers named above",
        ) from None
    text = _HEADER + yaml.safe_dump(
        {"config": {"cogniforge:platform": content}}, sort_keys=False, default_flow_style=None, width=120
    )
    try:
        file.parent.mkdir(exist_ok=True)
        with file.open("x") as target:  # fails even if the file was created a moment ago
            target.write(text)
    except FileExistsError:
        refuse_existing(answers.name)
    return file


def set_profile(name: str, profile: Profile) -> bool:
    """Write a profile to an environment's stack file; all other lines stay. Returns whether the file changed.

    Raises LocalError, and leaves the file as it is, if the configuration would be invalid.
    """
    before = stack.read_config(name)
    if before.profile is profile:
        return False
    file = stack.config_file(name)
    lines = file.read_text().splitlines(keepends=True)
    content = yaml.safe_load("".join(lines))["config"]["cogniforge:platform"]
    content["profile"] = profile.value
    try:
        parse(content)
    except ConfigError as error:
        raise LocalError(
            f"{file.name} is not valid with profile: {profile.value}: {error}",
            fix="correct the fields named above; nothing was changed",
        ) from None
    written = [line for line in lines if not _PROFILE.match(line)]
    place = next((number for number, line in enumerate(written) if _ENVIRONMENT.match(line)), None)
    if place is not None:
        indent = written[place][: len(written[place]) - len(written[place].lstrip())]
        written.insert(place + 1, f"{indent}profile: {profile.value}\n")
    text = "".join(written)
    if place is None or yaml.safe_load(text)["config"]["cogniforge:platform"] != content:
        raise LocalError(
            f"the profile could not be written to {file.name}; nothing was changed",
            fix=f"write `profile: {profile.value}` below `environment:` yourself",
        )
    paths.rewrite(file, text)
    return True


def definition(answers: Answers) -> dict[str, Any]:
    """Configuration of the platform, as in the stack file."""
    local = answers.kind is ClusterKind.LOCAL
    small = local or answers.built
    figures = _LOCAL if small else _SIZES[answers.size]
    services = max(figures.services, 2) if answers.stage is Environment.PROD else figures.services
    return {
        "environment": answers.stage.value,
        "owner": answers.owner,
        "cluster": _cluster(answers),
        "images": {
            "source": "local-build" if local or answers.built else "registry",
            **({} if local else {"registry": answers.registry}),
        },
        "gateway": {"hosts": list(answers.hosts), "port": answers.port, "replicas": services},
        "models": [{"name": "demo", "engine": "simulator", "replicas": services}],
        "services": {name: _service(name, services, small) for name in _offered()},
        "data": _data(figures, small),
    }


def _cluster(answers: Answers) -> dict[str, Any]:
    match answers.kind:
        case ClusterKind.LOCAL:
            # Another local environment shares the node with the first one, in its own namespace.
            own = {} if answers.name == "local" else {"namespace": answers.name}
            return {"kind": "local", **own}
        case ClusterKind.EXISTING:
            return {"kind": "existing", "context": answers.context}
        case ClusterKind.EKS:
            return {
                "kind": "eks",
                "eks": {
                    "region": answers.region,
                    "accountId": answers.account_id,
                    "vpcCidr": answers.vpc_cidr,
                    "nat": "per-zone" if answers.stage is Environment.PROD else "single",
                    "admins": list(answers.admins),
                    "nodePools": [
                        {
                            "name": "system",
                            "instanceTypes": ["m7i.xlarge", "m6i.xlarge"],
                            "minNodes": 3,
                            "maxNodes": 3 * max(2, _SIZES[answers.size].services),
                        }
                    ],
                },
            }


def _service(name: str, replicas: int, local: bool) -> dict[str, Any]:
    """Section of a service. On one machine, all others leave most of the CPU to the one that every request needs."""
    if not local or SERVICES[name].always:
        return {"replicas": replicas}
    return {"replicas": replicas, "resources": {"cpu": "25m", "memory": SERVICES[name].section().resources.memory}}


def _data(figures: _Figures, local: bool) -> dict[str, Any]:

    def sized() -> dict[str, Any]:
        resources = {"cpu": "50m" if local else "500m", "memory": figures.memory}
        return {"storage": figures.storage, "resources": resources}

    return {
        **({"destroyData": True} if local else {}),
        "postgres": {**sized(), **({"maxConnections": 60} if local else {})},
        "objectStore": {"storage": figures.storage},
        "nats": {"replicas": figures.servers, "storage": "1Gi" if local else "10Gi"},
        "kafka": {"replicas": figures.servers, **sized()},
        "cache": {},
        "schemaRegistry": {"replicas": min(figures.servers, 2)},
        "changeDataCapture": {"replicas": min(figures.servers, 2)},
        "vectorDatabase": {"collections": [dict(DOCUMENTS)]},
    }
