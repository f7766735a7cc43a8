"""Reads a configuration: every mistake is reported, those between sections included."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from components.config import ClusterKind, Environment, ImageSource, LogLevel, PlatformConfig, first_duplicate
from components.config_problems import ConfigError, Location, Problem, describe, format_location


@dataclass(frozen=True)
class _Conflict:
    """A rule between sections that does not hold; `needs` are the other fields that it looked at."""

    location: Location
    value: object
    limit: str
    fix: str
    needs: tuple[str, ...] = ()


def _cross_checks(config: PlatformConfig) -> Iterator[_Conflict]:
    if duplicate := first_duplicate(tuple(m.name for m in config.models)):
        yield _Conflict(("models",), duplicate, "model names must be unique", f'rename or remove one "{duplicate}"')
    local = config.environment is Environment.LOCAL
    if local != (config.cluster.kind is ClusterKind.LOCAL):
        kind, limit = config.cluster.kind.value, "local" if local else "existing"
        text = f"must be {limit} in {config.environment}"
        yield _Conflict(("cluster", "kind"), kind, text, f"set kind: {limit}", ("environment",))
    if not local and config.images.source is ImageSource.LOCAL_BUILD:
        text = f"local-build images exist on one machine only, not in {config.environment}"
        fix = "set source: registry and a registry"
        yield _Conflict(("images", "source"), "local-build", text, fix, ("environment",))
    if local and config.gateway.port < 1024:
        text = "at least 1024 on a developer's machine"
        yield _Conflict(("gateway", "port"), config.gateway.port, text, "set it to 8443", ("environment",))
    if config.environment is Environment.PROD:
        yield from _production_checks(config)
    timeout_s = config.gateway.request_timeout_seconds
    for index, model in enumerate(config.models):
        if model.timeout_seconds > timeout_s:
            location = ("models", index, "timeoutSeconds")
            text = f"at most gateway.requestTimeoutSeconds ({timeout_s})"
            fix = "lower it, or raise the gateway's timeout"
            yield _Conflict(location, model.timeout_seconds, text, fix, ("gateway.requestTimeoutSeconds",))


def _production_checks(config: PlatformConfig) -> Iterator[_Conflict]:
    counted: list[tuple[Location, int]] = [
        (("gateway", "replicas"), config.gateway.replicas),
        (("services", "router", "replicas"), config.services.router.replicas),
        *((("models", i, "replicas"), m.replicas) for i, m in enumerate(config.models)),
    ]
    for location, replicas in counted:
        if replicas < 2:
            text = "at least 2 in prod, so that a node may fail"
            yield _Conflict(location, replicas, text, "set it to 2 or more", ("environment",))
    if config.observability.log_level is LogLevel.DEBUG:
        text = "not debug in prod: prompts would be logged"
        yield _Conflict(("observability", "logLevel"), "debug", text, "set it to info", ("environment",))


_STAND_IN: dict[str, Any] = {
    "environment": "local",
    "owner": "nobody",
    "cluster": {"kind": "local"},
    "images": {"source": "local-build"},
    "gateway": {"hosts": ["localhost"]},
    "models": [{"name": "stand-in"}],
}
"""Takes the place of missing or broken required fields while the rules between the others are checked."""


def parse(data: object) -> PlatformConfig:
    """Validate a configuration. Raises ConfigError with every problem, those between sections included."""
    problems: list[Problem] = []
    remaining = copy.deepcopy(data)
    config: PlatformConfig | None = None
    replaced: set[str] = set()
    for _ in range(20):  # each round takes out what is wrong, so that the rest can be checked too
        try:
            config = PlatformConfig.model_validate(remaining)
            break
        except ValidationError as error:
            for detail in error.errors():
                problem = describe(detail, PlatformConfig)
                if problem.path not in replaced:
                    problems.append(problem)
                    replaced.add(problem.path)
            if not _replace(remaining, [e["loc"] for e in error.errors()]):
                break
    for conflict in _cross_checks(config) if config else ():
        path = format_location(conflict.location)
        involved = (path, *conflict.needs)
        if not any(_overlap(one, other) for one in involved for other in replaced):
            problems.append(Problem(path, str(conflict.value), conflict.limit, conflict.fix))
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other or lies within it."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith((f"{short}.", f"{short}["))


def _replace(data: Any, locations: list[Location]) -> bool:
    """Put stand-ins at these locations, or nothing where the field is optional; says whether it could."""
    done = False
    for location in sorted(locations, key=len, reverse=True):
        parent: Any = data
        model: object = _STAND_IN
        try:
            for part in location[:-1]:
                parent = parent[part]
                model = _member(model, part)
            stand_in = _member(model, location[-1])
            if stand_in is not None:
                parent[location[-1]] = copy.deepcopy(stand_in)
            else:
                del parent[location[-1]]
            done = True
        except (KeyError, IndexError, TypeError):
            continue
    return done


def _member(value: object, part: str | int) -> object:
    """A stand-in's member; every entry of a list is like its first."""
    if isinstance(part, int):
        return cast("list[object]", value)[0] if isinstance(value, list) else None
    return cast("dict[str, object]", value).get(part) if isinstance(value, dict) else None
