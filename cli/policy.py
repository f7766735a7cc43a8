"""Policies of the gateway on this machine: tests, decisions about single requests, and the check for lock-outs."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli import output, stack
from components import sources
from components.config.opa import Opa
from components.config.platform import PlatformConfig
from components.config.problems import ConfigError
from components.mesh import entrance
from components.security import policy_bundle, policy_data
from local.errors import LocalError
from local.toolchain import builder
from local.toolchain.tools import ToolName

COVERED_PERCENT = 95
"""Least share of the policies' lines that their tests run."""
OPERATOR = "default"
"""The tenant of the installation key."""
_LIMIT_S = 60
Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A request to be explained."""

    method: str
    path: str
    scopes: tuple[str, ...] | None
    """Scopes of its key; None: it has no key."""
    tenant: str = OPERATOR
    model: str = ""
    at: datetime | None = None
    """None: now."""
    break_glass: str = ""

    def input(self) -> Json:
        """The input of the decision, as the server makes it."""
        target = self.path.partition("?")[0]
        target = target.rstrip("/") or "/"
        at = time.time() if self.at is None else self.at.timestamp()
        caller = {"tenant": self.tenant, "id": "explained", "user": "", "scopes": list(self.scopes or ())}
        return {
            "method": self.method.upper(),
            "target": target,
            "path": target.removeprefix("/").split("/"),
            "request_id": "explained",
            "time": int(at) * 10**9,
            "anthropic": False,
            "directory": True,
            **({"key": True, "caller": caller} if self.scopes is not None else {}),
            **({"model": self.model} if self.model else {}),
            **({"break_glass": self.break_glass} if self.break_glass else {}),
        }


def section(config: PlatformConfig, name: str) -> Opa:
    """The section of OPA. Raises LocalError where the environment has none."""
    if config.security.opa is None:
        raise LocalError(f"{name} has no policies", fix=f"add security.opa: {{}} to stacks/Pulumi.{name}.yaml")
    return config.security.opa


def question(request: str, scopes: Iterable[str], *, key: bool, **more: Any) -> Question:
    """A question from words such as "GET /v1/tenants". Raises LocalError for other words."""
    method, _, path = request.strip().partition(" ")
    if not method.isalpha() or not path.startswith("/"):
        raise LocalError(f'"{request}" is not a request', fix='write it like "GET /v1/tenants"')
    return Question(method, path, tuple(scopes) if key else None, **more)


def moment(text: str) -> datetime:
    """A time in ISO 8601; without an offset, it is in UTC. Raises LocalError for other words."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise LocalError(f'"{text}" is not a time', fix="write it like 2026-11-27T08:30") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def decisions(config: PlatformConfig, opa: Opa, asked: Iterable[Json]) -> list[Json]:
    """The decision about each input, by the bundle of this configuration."""
    data = policy_data.installation(config, opa, entrance.intent(config))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / policy_bundle.FILE
        # Nobody else reads this bundle, so that it needs no signature.
        file.write_bytes(policy_bundle.archive(policy_bundle.contents(data, own_rules(opa))))
        lines = "".join(json.dumps(one) + "\n" for one in asked)
        done = _run(["decide", f"-bundle={file}"], lines)
    if done.returncode != 0:
        raise LocalError(
            "the policies do not compile",
            reason=done.stderr.strip().replace(f"{folder}/", ""),
            fix="correct the rules in the folder security.opa.rules",
        )
    return [json.loads(line) or {"allowed": False, "rule": "none"} for line in done.stdout.splitlines()]


def own_rules(opa: Opa) -> dict[str, str]:
    """The installation's own modules by file name."""
    if not opa.rules:
        return {}
    try:
        return policy_bundle.own_rules(sources.project() / opa.rules)
    except ConfigError as error:
        raise LocalError(str(error), fix="correct the rules named above") from None


def _run(arguments: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    program = builder.resolve(ToolName.OPA, output.BuildReport())
    return subprocess.run([str(program), *arguments], input=given, capture_output=True, text=True, timeout=_LIMIT_S)


def locked_out(config: PlatformConfig, opa: Opa) -> list[tuple[str, str]]:
    """Operators' operations that the installation key may not use, each with the rule and the message."""
    found = policy_data.operations(config, entrance.intent(config))
    mine = [one for one in found if one.operators]
    asked = [Question(one.method, one.path.replace("{", "").replace("}", ""), (policy_data.ADMIN,)) for one in mine]
    return [
        (f"{one.method} {one.path}", f"{decision['rule']}: {message(decision)}")
        for one, decision in zip(mine, decisions(config, opa, [each.input() for each in asked]), strict=True)
        if not decision["allowed"]
    ]


def refuse_lock_out(name: str, config: PlatformConfig) -> None:
    """Raise LocalError if rules of the installation's own, or limits of its tenant, lock out its operators."""
    opa = config.security.opa
    if opa is None or not (opa.rules or OPERATOR in opa.tenants):
        return
    found = locked_out(config, opa)
    if found:
        shown = [f"{operation} ({why})" for operation, why in found[:5]]
        more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
        raise LocalError(
            f"the policies of {name} lock out its operators",
            reason="the installation key is refused: " + ", ".join([*shown, *more]),
            fix=f"except callers with the scope admin in security.opa.rules; remove limits of the tenant {OPERATOR}",
        )


def message(decision: Json) -> str:
    """The message of a denial; empty if there is none."""
    return str(decision.get("body", {}).get("error", {}).get("message", ""))


def tests(opa: Opa) -> str:
    """Run the tests of the platform's policies and of the installation's own. Returns the report of both."""
    folders = [policy_bundle.POLICIES]
    if opa.rules:
        own_rules(opa)
        folders.append(sources.project() / opa.rules)
    reports = list[str]()
    for folder in folders:
        # Whoever writes rules decides how well to test them; the platform's have a limit.
        limit = COVERED_PERCENT if folder == policy_bundle.POLICIES else 0
        done = _run(["test", f"-threshold={limit}", str(folder)])
        if done.returncode != 0:
            reason = (done.stdout + done.stderr).strip().replace(f"{folder}/", "")
            raise LocalError(f"tests of {folder.name} failed", reason=reason, fix="correct the rule, or its test")
        reports.append(f"{folder.name}: {done.stdout.strip()}")
    return "\n".join(reports)


def test(name: str) -> str:
    """Run all tests of an environment's policies, and look for lock-outs. Returns the report."""
    config = stack.read_config(name)
    opa = section(config, name)
    report = tests(opa)
    refuse_lock_out(name, config)
    return f"{report}\noperators: the installation key may use all operations for operators"


def explain(name: str, asked: Question) -> Json:
    """The decision about a request."""
    config = stack.read_config(name)
    return decisions(config, section(config, name), [asked.input()])[0]
