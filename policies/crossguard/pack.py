"""All rules as a Pulumi policy pack, and their levels by stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from policies.crossguard import aws_rules, gateway_rules, gpu_rules, iam_rules, kubernetes_rules
from policies.crossguard.rule import Resource, Rule, StackRule, level

NAME = "cogniforge"
RULES: tuple[Rule, ...] = (
    *aws_rules.RULES,
    *iam_rules.RULES,
    *kubernetes_rules.RULES,
    *gpu_rules.RULES,
    *gateway_rules.RULES,
)
STACK_RULES: tuple[StackRule, ...] = (*aws_rules.STACK_RULES, *gpu_rules.STACK_RULES)


def levels(environment: str) -> dict[str, Any]:
    """Configuration of the pack for an environment, for `--policy-pack-config`."""
    return {rule.name: {"enforcementLevel": level(rule, environment).value} for rule in (*RULES, *STACK_RULES)}


def _resource(args: Any) -> Resource:
    options = getattr(args, "opts", None)
    return Resource(args.resource_type, args.name, args.urn, args.props, bool(options and options.protect))


def _resource_policy(rule: Rule) -> ResourceValidationPolicy:
    def validate(args: ResourceValidationArgs, report: Callable[..., None]) -> None:
        for violation in rule.violations(_resource(args)):
            report(f"{violation}. Fix: {rule.fix}.")

    return ResourceValidationPolicy(
        rule.name, description=rule.description, validate=validate, enforcement_level=EnforcementLevel.MANDATORY
    )


def _stack_policy(rule: StackRule) -> StackValidationPolicy:
    def validate(args: StackValidationArgs, report: Callable[..., None]) -> None:
        for urn, violation in rule.violations([_resource(r) for r in args.resources]):
            report(f"{violation}. Fix: {rule.fix}.", urn)

    return StackValidationPolicy(
        rule.name, description=rule.description, validate=validate, enforcement_level=EnforcementLevel.MANDATORY
    )


def start() -> None:
    """Serve the pack to the engine. Without a configuration, all rules are as strict as in prod."""
    strict = {rule.name: EnforcementLevel(level(rule, "prod").value) for rule in (*RULES, *STACK_RULES)}
    policies: list[Any] = [*map(_resource_policy, RULES), *map(_stack_policy, STACK_RULES)]
    PolicyPack(NAME, policies=policies, initial_config=dict(strict))
