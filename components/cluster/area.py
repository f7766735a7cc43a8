"""Area of the cluster: creates an EKS cluster or connects to an existing one, and creates the namespace."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.base import ADMISSION_LABEL
from components.cluster.aws_foundation import AwsFoundation
from components.cluster.aws_site import AwsSiteArgs
from components.cluster.existing_cluster import ExistingCluster
from components.cluster.local_cluster import LocalCluster
from components.cluster.namespace import PlatformNamespace
from components.config.cluster import ClusterKind
from components.mesh import istio
from components.stage import Stage


class ClusterArea:
    """The cluster and the platform's namespace."""

    site: AwsSiteArgs | None
    """Where AWS runs managed services."""
    account: aws.Provider | None
    """Talks to the AWS account."""

    def __init__(self, stage: Stage) -> None:
        config, self.site, self.account = stage.config, None, None
        child = stage.options()
        if config.cluster.eks is not None:
            foundation = AwsFoundation(f"{stage.env}-foundation", config, child, environment=stage.env)
            self.site, self.account = foundation.site, foundation.account
            provider, parts = foundation.provider, foundation.parts
        elif config.cluster.kind is ClusterKind.LOCAL:
            local = LocalCluster(f"{stage.env}-cluster", child)
            provider, parts = local.provider, {"cluster": local}
        else:
            existing = ExistingCluster(f"{stage.env}-cluster", config.cluster.context, child)
            stage.reused = frozenset(part.part.chart for part in existing.found if part.reused)
            provider, parts = existing.provider, {"cluster": existing}
        stage.connect(provider)
        mesh = {} if config.own_mesh else istio.namespace_labels(config.mesh.mode)
        self.namespace = PlatformNamespace(
            f"{stage.env}-namespace",
            {
                "namespace": config.cluster.namespace,
                "owner": config.owner,
                "labels": {ADMISSION_LABEL: config.cluster.namespace, **mesh},
            },
            stage.options(),
        )
        stage.namespace = self.namespace.namespace
        stage.parts |= {**parts, "namespace": self.namespace}

    def with_account(self, options: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
        """Options whose resources are also made in the AWS account, where there is one."""
        if self.account is None:
            return options
        return pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(providers={"aws": self.account}))
