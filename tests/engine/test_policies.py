"""Every rule of the policy pack through the real engine: one compliant and one violating resource."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pulumi.automation as auto
import pulumi_aws as aws
import pytest

from local import paths
from policies.crossguard import pack
from tests.engine.conftest import Engine
from tests.engine.policy_cases import CASES, ENVIRONMENT, NO_KEEPING, PROTECTED

pytestmark = pytest.mark.engine
_PACK = str(paths.PROJECT / "policies" / "crossguard")
Violations = set[tuple[str, str]]


def _preview(folder: Path, stack: str, program: Callable[[], None], config: Path | None = None) -> Violations:
    """(rule, resource name) of every reported violation."""
    engine = Engine(folder, stack, KUBECONFIG=str(folder / "none"))
    found: Violations = set()
    others: list[str] = []

    def on_event(event: Any) -> None:
        if event.policy_event:
            found.add((event.policy_event.policy_name, event.policy_event.resource_urn.split("::")[-1]))
        if event.diagnostic_event and event.diagnostic_event.severity == "error":
            others.append(event.diagnostic_event.message)

    engine.stack.workspace.program = program
    options: dict[str, Any] = {"policy_packs": [_PACK], "on_event": on_event}
    if config:
        options["policy_pack_configs"] = [str(config)]
    try:
        engine.stack.preview(**options)
    except auto.errors.CommandError as error:
        assert found, str(error)
    assert not [text for text in others if "preview failed" not in text]  # the effect of a mandatory rule
    return found


def _declare(rule: str, kind: str, properties: dict[str, Any], suffix: str, protect: bool) -> None:
    kept = {k: v for k, v in properties.items() if v is not None}
    if kind.startswith("kubernetes:") and "helm" not in kind:
        kept["metadata"] = {**kept.get("metadata", {}), "name": f"{rule}-{suffix}"}
    pulumi.CustomResource(kind, f"{rule}-{suffix}", kept, pulumi.ResourceOptions(protect=protect))


def _all_cases(stack: str) -> None:
    for rule, (kind, keeping, breaking) in CASES.items():
        if ENVIRONMENT.get(rule, "prod") != stack:
            continue
        if rule not in NO_KEEPING:
            _declare(rule, kind, keeping, "keeps", protect=True)
        _declare(rule, kind, breaking, "breaks", rule not in PROTECTED)


@pytest.fixture(scope="module")
def violations(tmp_path_factory: pytest.TempPathFactory) -> Violations:
    found: Violations = set()
    for stack in ("prod", *set(ENVIRONMENT.values())):
        found |= _preview(tmp_path_factory.mktemp(stack), stack, lambda stack=stack: _all_cases(stack))
    return found


@pytest.mark.parametrize("rule", CASES)
def test_a_resource_that_breaks_the_rule_is_reported(violations: Violations, rule: str) -> None:
    assert (rule, f"{rule}-breaks") in violations


@pytest.mark.parametrize("rule", [rule for rule in CASES if rule not in NO_KEEPING])
def test_a_resource_that_keeps_the_rule_is_not_reported(violations: Violations, rule: str) -> None:
    assert (rule, f"{rule}-keeps") not in violations


def _provider_case(good: bool) -> Callable[[], None]:
    def program() -> None:
        tags = {"tags": {"cogniforge.dev/environment": "prod", "cogniforge.dev/owner": "me"}}
        if good:
            provider = aws.Provider("p", region="us-east-1", default_tags=tags, allowed_account_ids=["0" * 12])
        else:
            provider = aws.Provider("p", region="us-east-1")
        network = aws.ec2.Vpc("v", cidr_block="10.0.0.0/16", opts=pulumi.ResourceOptions(provider=provider))
        group: dict[str, Any] = dict(CASES["gpu-type-allowed"][1])
        size = {"minSize": 0, "maxSize": 1 if good else 600, "desiredSize": 0}
        pulumi.CustomResource(
            "aws:eks/nodeGroup:NodeGroup",
            "g",
            {**group, "scalingConfig": size},
            pulumi.ResourceOptions(provider=provider),
        )
        if good:
            aws.ec2.FlowLog(
                "f",
                vpc_id=network.id,
                traffic_type="ALL",
                log_destination="arn:aws:s3:::b",
                log_destination_type="s3",
                opts=pulumi.ResourceOptions(provider=provider),
            )

    return program


_WHOLE = ("aws-provider-tags", "aws-account-pinned", "aws-flow-logs", "gpu-cost-ceiling")


@pytest.fixture(scope="module")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, set[str]]:
    return {
        good: {rule for rule, _ in _preview(tmp_path_factory.mktemp(str(good)), "prod", _provider_case(good))}
        for good in (True, False)
    }


@pytest.mark.parametrize("rule", _WHOLE)
def test_a_stack_that_breaks_the_rule_is_reported(whole_stack: dict[bool, set[str]], rule: str) -> None:
    assert rule in whole_stack[False]


@pytest.mark.parametrize("rule", _WHOLE)
def test_a_stack_that_keeps_the_rule_is_not_reported(whole_stack: dict[bool, set[str]], rule: str) -> None:
    assert rule not in whole_stack[True]


def test_every_rule_has_cases() -> None:
    assert {r.name for r in (*pack.RULES, *pack.STACK_RULES)} == {*CASES, *_WHOLE}


def test_an_advisory_rule_does_not_stop_a_preview(tmp_path: Path) -> None:
    config = tmp_path / "levels.json"
    config.write_text(json.dumps(pack.levels("dev")))
    engine = Engine(tmp_path, "dev", KUBECONFIG=str(tmp_path / "none"))
    kind, _, breaking = CASES["k8s-replicas"]
    engine.stack.workspace.program = lambda: _declare("k8s-replicas", kind, breaking, "breaks", False)
    engine.stack.preview(policy_packs=[_PACK], policy_pack_configs=[str(config)])
