"""Names that resources had before, so that an update renames them and replaces nothing."""

from __future__ import annotations

import pulumi


def keep(environment: str, stage: str) -> None:
    """Until 0.1.0 the names of an environment's resources began with its stage, whatever its own name was."""
    if environment == stage:
        return

    def alias(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not args.name.startswith(f"{environment}-"):
            return None
        former = pulumi.ResourceOptions(aliases=[pulumi.Alias(name=stage + args.name.removeprefix(environment))])
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, former))

    pulumi.runtime.register_stack_transformation(alias)
