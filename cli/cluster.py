"""Access to the cluster of an environment."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.config.platform import PlatformConfig


def is_local(config: PlatformConfig) -> bool:
    """Whether the environment runs on the node that `forge up` starts."""
    from components.config.cluster import ClusterKind

    return config.cluster.kind is ClusterKind.LOCAL


def kubeconfig(config: PlatformConfig) -> Path | None:
    """Path of the local node's kubeconfig; None means the user's own kubeconfig."""
    from local.node.settings import NodePaths

    return NodePaths().kubeconfig if is_local(config) else None


def kubectl(local: bool, context: str) -> list[str]:
    """Command line of kubectl for the environment's cluster. The local node's binary contains its own kubectl."""
    from local.node.settings import NodePaths
    from local.toolchain import builder
    from local.toolchain.tools import ToolName

    own = None if local else shutil.which("kubectl")  # the user's kubectl fits the version of the user's cluster
    base = [own] if own else [str(builder.resolve(ToolName.NODE)), "kubectl"]
    if local:
        return [*base, "--kubeconfig", str(NodePaths().kubeconfig)]
    return [*base, *(["--context", context] if context else [])]


def namespaces(config: PlatformConfig) -> list[str]:
    """Namespaces with the environment's parts: its own first, then those of parts that have one for themselves."""
    from components.observability.log_names import COLLECTOR_NAMESPACE, STORE_NAMESPACE
    from components.observability.prometheus import NAMESPACE as PROMETHEUS

    seen = config.observability
    return [
        config.cluster.namespace,
        *([PROMETHEUS] if seen.prometheus else []),
        *([COLLECTOR_NAMESPACE, STORE_NAMESPACE] if seen.logs else []),
    ]
