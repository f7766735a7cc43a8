"""Former names of resources, so that an update renames them instead of replacing them."""

from __future__ import annotations

import pulumi


def keep(environment: str, stage: str) -> None:
    """Add aliases for names up to 0.1.0, which began with the environment's stage instead of its name."""
    if environment == stage:
        return

    def alias(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not args.name.startswith(f"{environment}-"):
            return None
        former = pulumi.ResourceOptions(aliases=[pulumi.Alias(name=stage + args.name.removeprefix(environment))])
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, former))

    pulumi.runtime.register_stack_transformation(alias)
