"""Capture of pods' traffic for the sidecars of a mesh, by Istio's CNI plugin on the node.

The plugin writes the rules of a pod into the pod's network namespace before its containers start, so no container needs
a right on the network. The plugin acts on pods with a container "istio-proxy" only, which it looks up at the API server
with its own certificate. Its node agent (install-cni) is not needed: it would copy the plugin and write these files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from local.node import configs
from local.node.settings import NodePaths
from local.toolchain import builder
from local.toolchain.tools import ISTIO_DEFINITIONS, ToolName

USER = "capture"
"""Name of the plugin's kubeconfig and certificate."""
_KUBECONFIG = "istio-cni-kubeconfig"
"""Name of the file that the plugin reads. Source: Istio, cni/pkg/constants."""
_DEBIAN = Path("/usr/lib/cni")


def link_programs(node: NodePaths, plugin: Path | None = None) -> None:
    """Fill the folder of plugins with links to Debian's and, where it has been built, Istio's. Can be repeated."""
    folder = node.plugins
    folder.mkdir(parents=True, exist_ok=True)
    found = {path.name: path for path in _DEBIAN.glob("*")} | ({plugin.name: plugin} if plugin else {})
    for name, target in found.items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def plugin(node: NodePaths) -> dict[str, Any]:
    """Entry of the plugin in the CNI configuration, after the plugin that makes the pod's link."""
    return {
        "type": ToolName.ISTIO_CNI.value,
        "plugin_log_level": "warn",
        "cni_agent_run_dir": str(_folder(node)),
        "exclude_namespaces": ["kube-system"],
        # Kernels without the modules of iptables have those of nftables, which kube-proxy uses here, too.
        "native_nftables": True,
    }


def _folder(node: NodePaths) -> Path:
    return node.root / "cni" / "istio"


def prepare(node: NodePaths) -> None:
    """Build the plugin if necessary, and give it its kubeconfig."""
    link_programs(node, builder.resolve(ToolName.ISTIO_CNI))
    folder = _folder(node)
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / _KUBECONFIG
    link.unlink(missing_ok=True)
    link.symlink_to(configs.kubeconfig(node, USER))


def definitions() -> list[dict[str, Any]]:
    """Istio's custom resource definitions, which Istio's chart brings elsewhere."""
    file = builder.resolve(ToolName.ISTIO_CNI).with_name(ISTIO_DEFINITIONS)
    return [document for document in yaml.safe_load_all(file.read_text()) if document]
