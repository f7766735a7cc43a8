"""The connection to the cluster of an environment."""

from __future__ import annotations

import os

import pulumi
import pulumi_kubernetes as k8s

from components.config import Cluster, ClusterKind

KUBECONFIG_VARIABLE = "COGNIFORGE_KUBECONFIG"
"""Names the kubeconfig of the local node; the project's `pulumi` sets it."""
LOCAL_CONTEXT = "cogniforge-local"


def connect(name: str, cluster: Cluster, opts: pulumi.ResourceOptions | None = None) -> k8s.Provider:
    """A provider for the configured cluster. Nothing is contacted until resources are made."""
    if cluster.kind is ClusterKind.LOCAL:
        kubeconfig = os.environ.get(KUBECONFIG_VARIABLE)
        return k8s.Provider(name, kubeconfig=kubeconfig, context=LOCAL_CONTEXT, opts=opts)
    return k8s.Provider(name, context=cluster.context, opts=opts)
