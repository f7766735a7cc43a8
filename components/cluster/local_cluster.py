"""The cluster of a developer's machine: the node that `forge up` starts."""

from __future__ import annotations

import os

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent

KUBECONFIG_VARIABLE = "COGNIFORGE_KUBECONFIG"
"""Names the kubeconfig of the local node; the project's `pulumi` sets it."""
CONTEXT = "cogniforge-local"


class LocalCluster(PlatformComponent):
    """The connection to the local node; nothing is contacted until resources are made."""

    provider: k8s.Provider

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cluster", name, {}, opts)
        # Its former place is under the platform itself.
        aliases = [pulumi.Alias(parent=opts.parent)] if opts and opts.parent else []
        self.provider = k8s.Provider(
            name, kubeconfig=os.environ.get(KUBECONFIG_VARIABLE), context=CONTEXT, opts=self.child(aliases=aliases)
        )
        self.finish({"kind": "", "namespace": "", "name": CONTEXT, "probe": "the API server answers"})
