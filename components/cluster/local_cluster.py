"""The local cluster: the Kubernetes node that `forge up` starts on this machine."""

from __future__ import annotations

import os
from typing import NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent

KUBECONFIG_VARIABLE = "COGNIFORGE_KUBECONFIG"
"""Environment variable with the path of the local node's kubeconfig. The project's `pulumi` command sets it."""
CONTEXT = "cogniforge-local"


class LocalClusterResources(NamedTuple):
    """Resources of the connection."""

    provider: k8s.Provider
    """Talks to the node."""


class LocalCluster(PlatformComponent):
    """The connection to the local node. The node is not contacted before resources are created."""

    provider: k8s.Provider

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cluster", name, {}, opts)
        # An alias for its former parent, the platform itself.
        aliases = [pulumi.Alias(parent=opts.parent)] if opts and opts.parent else []
        self.provider = k8s.Provider(
            name, kubeconfig=os.environ.get(KUBECONFIG_VARIABLE), context=CONTEXT, opts=self.child(aliases=aliases)
        )
        self.resources = LocalClusterResources(self.provider)
        self.finish({"kind": "", "namespace": "", "name": CONTEXT, "probe": "the API server answers"})
