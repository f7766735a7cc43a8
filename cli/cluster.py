"""How commands reach the cluster of an environment."""

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
    """The local node's kubeconfig; None: the user's own."""
    from local.node.settings import NodePaths

    return NodePaths().kubeconfig if is_local(config) else None


def kubectl(local: bool, context: str) -> list[str]:
    """The kubectl of the node's binary, pointed at the environment's cluster."""
    from local.node.settings import NodePaths
    from local.toolchain import builder
    from local.toolchain.tools import ToolName

    own = None if local else shutil.which("kubectl")  # whoever has a cluster has a kubectl that fits it
    base = [own] if own else [str(builder.resolve(ToolName.NODE)), "kubectl"]
    if local:
        return [*base, "--kubeconfig", str(NodePaths().kubeconfig)]
    return [*base, *(["--context", context] if context else [])]
