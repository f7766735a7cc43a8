"""Creates and removes the node's network link, firewall table and pod network."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.node import settings
from local.node.settings import NodePaths
from local.paths import write_private

TABLE = "cogniforge"
POD_LOGS = Path("/var/log/pods")
"""Where kubelets keep the logs of pods. The node's are in its own folder, and this is a link to them."""
SHARED_FOLDERS = tuple(
    Path(p)
    for p in (
        "/var/log/containers",
        str(POD_LOGS),
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/run/containerd",
        "/run/netns",
    )
)
"""Folders that containerd, the kubelet and CNI always use, independent of their configuration."""
# ptp gives each pod a point-to-point link, so all traffic between pods is routed and
# tracked by the host: Services work without br_netfilter, which many kernels lack.
_SYSCTLS = {"net.ipv4.ip_forward": "1"}
_VETH = "veth*"
_POLICY_CHAINS = (":KUBE-ROUTER-", ":KUBE-POD-FW-", ":KUBE-NWPLCY-")
"""Prefix of iptables-save's lines for chains of kube-router's policy controller."""
_POLICY_SETS = ("kube-router-", "KUBE-SRC-", "KUBE-DST-")
"""Prefixes of the names of its address sets."""


def run(*command: str, check: bool = True, stdin: str | None = None) -> str:
    """Run a system command. Raises LocalError with its output if it fails.

    Without `check`, a missing program is no failure: then there is nothing that it could remove.
    """
    try:
        result = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        if not check:
            return ""
        fix = "run `forge doctor` to see what is missing and get it"
        raise LocalError(f"{command[0]} is not installed", fix=fix) from None
    if check and result.returncode != 0:
        raise LocalError(f"`{' '.join(command)}` failed", reason=result.stderr or result.stdout)
    return result.stdout


def _sysctl_file(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def _ruleset() -> str:
    """Firewall rules: only pods and this machine can reach the node's address and the pods.

    Packets to a Service or pod address that is not translated or routed, for example before kube-proxy has started, are
    rejected. They must never leave the machine: a host outside could answer in place of the Service, and a connection
    to that host would survive the start of kube-proxy.
    """
    address, pods, services = settings.NODE_ADDRESS, settings.POD_CIDR, settings.SERVICE_CIDR
    return f"""
table inet {TABLE} {{
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    ip daddr {address} iifname != "lo" iifname != "{_VETH}" drop
  }}
  chain forward {{
    type filter hook forward priority filter - 5; policy accept;
    ct state established,related accept
    ip daddr {pods} iifname != "{_VETH}" drop
    ip daddr {services} reject
  }}
  chain output {{
    type filter hook output priority filter + 5; policy accept;
    ip daddr {services} reject
  }}
  chain leaving {{
    type filter hook postrouting priority filter + 5; policy accept;
    ip daddr {pods} oifname != {{ "lo", "{settings.LINK}" }} oifname != "{_VETH}" drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat + 5; policy accept;
    ip saddr {pods} ip daddr != {pods} ip daddr != {address} masquerade
  }}
}}
"""


def configure(node: NodePaths, plugins: Sequence[Mapping[str, Any]] = ()) -> None:
    """Create the link, firewall rules, system settings and CNI configuration. Can be repeated.

    `plugins`: entries of further CNI plugins. containerd reads the configuration again when it changes.
    """
    _record_originals(node)
    show_pod_logs(node)
    if not _link_exists():
        # A bridge without ports: unlike "dummy", every kernel that runs containers supports bridges.
        run("ip", "link", "add", settings.LINK, "type", "bridge")
    run("ip", "address", "replace", f"{settings.NODE_ADDRESS}/32", "dev", settings.LINK)
    run("ip", "link", "set", settings.LINK, "up")
    run("nft", "-f", "-", stdin=f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n{_ruleset()}")
    for name, value in _SYSCTLS.items():
        _sysctl_file(name).write_text(value)
    run("mount", "--make-rshared", "/")
    network = {
        "cniVersion": "1.0.0",
        "name": "cogniforge",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "mtu": 1500,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(node.root / "cni" / "addresses"),
                    "ranges": [[{"subnet": str(settings.POD_CIDR)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            *plugins,
        ],
    }
    write_private(node.root / "cni" / "net.d" / "10-cogniforge.conflist", json.dumps(network, indent=2))


def _link_exists() -> bool:
    return Path("/sys/class/net", settings.LINK).exists()


def _originals(node: NodePaths) -> Path:
    return node.root / "originals.json"


def _root_is_shared() -> bool:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == "/":
            return any(f.startswith("shared:") for f in fields[6:])
    return False


def _record_originals(node: NodePaths) -> None:
    """Save the original system settings that `configure` changes, once."""
    file = _originals(node)
    if not file.exists():
        values = {name: _sysctl_file(name).read_text().strip() for name in _SYSCTLS}
        folders = [str(folder) for folder in (*SHARED_FOLDERS, *_cni_records()) if folder.exists()]
        originals = {"sysctls": values, "root_shared": _root_is_shared(), "folders": folders}
        write_private(file, json.dumps(originals))


def resolver_file(node: NodePaths) -> tuple[Path, list[str]]:
    """Write a resolv.conf without loopback resolvers, which pods cannot reach. Returns its path and its servers."""
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        lines = []
    servers = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
    usable = [server for server in servers if not server.startswith("127.") and server != "::1"]
    file = node.config / "resolv.conf"
    write_private(file, "".join(f"nameserver {server}\n" for server in usable))
    return file, usable


def show_pod_logs(node: NodePaths, place: Path = POD_LOGS) -> None:
    """Make the logs of pods appear where collectors look for them, unless another kubelet has its logs there."""
    if not place.exists():
        place.unlink(missing_ok=True)  # of a node that is gone
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(node.pod_logs)


def hide_pod_logs(node: NodePaths, place: Path = POD_LOGS) -> None:
    """Undo `show_pod_logs`."""
    if place.is_symlink() and place.readlink() == node.pod_logs:
        place.unlink()


def _cni_records() -> list[Path]:
    return sorted(Path("/var/lib/cni/results").glob("*"))


def remove_shared_folders(node: NodePaths) -> None:
    """Delete shared folders that the node has created. In older folders, delete only the node's files."""
    hide_pod_logs(node)
    try:
        existed = set(json.loads(_originals(node).read_text())["folders"])
    except (OSError, ValueError, KeyError):
        existed = {str(folder) for folder in SHARED_FOLDERS}
    for folder in SHARED_FOLDERS:
        if str(folder) not in existed:
            shutil.rmtree(folder, ignore_errors=True)
    # CNI has one record per pod and network, named by container ID. New records belong to the node.
    for record in _cni_records():
        if str(record) not in existed:
            record.unlink(missing_ok=True)


def remove(node: NodePaths) -> None:
    """Undo `configure`, and remove leftovers of kube-proxy and pods."""
    for name in _pod_links(node):
        run("ip", "link", "delete", name, check=False)
    run("ip", "link", "delete", settings.LINK, check=False)
    run("nft", "delete", "table", "inet", TABLE, check=False)
    remove_proxy_tables()
    remove_policy_rules()
    try:
        originals = json.loads(_originals(node).read_text())
    except (OSError, ValueError):
        return
    for name, value in originals["sysctls"].items():
        _sysctl_file(name).write_text(value)
    if not originals["root_shared"]:
        run("mount", "--make-rprivate", "/", check=False)


def remove_proxy_tables() -> None:
    """Delete kube-proxy's tables. It writes them again when it starts."""
    for family in ("ip", "ip6"):
        run("nft", "delete", "table", family, "kube-proxy", check=False)


def remove_policy_rules() -> None:
    """Delete the chains and address sets that enforce NetworkPolicies, and tables that are empty then."""
    rules = run("iptables-save", "-t", "filter", check=False).splitlines()
    chains = [line.split()[0][1:] for line in rules if line.startswith(_POLICY_CHAINS)]
    if chains:
        kept = [line for line in rules if not any(chain in line.split() or f":{chain}" in line for chain in chains)]
        run("iptables-restore", "--table", "filter", check=False, stdin="\n".join([*kept, ""]))
        chains_kept = [line for line in kept if line.startswith((":", "-A"))]
        if all(line.startswith(":") and " ACCEPT " in line for line in chains_kept):
            run("nft", "delete", "table", "ip", "filter", check=False)
    for name in run("ipset", "list", "-name", check=False).split():
        if name.startswith(_POLICY_SETS):
            run("ipset", "destroy", name, check=False)


def _pod_links(node: NodePaths) -> list[str]:
    """Host ends of the pods' links: veth interfaces with a route into the pod network."""
    routes = run("ip", "-4", "route", "show", "root", str(settings.POD_CIDR), check=False).splitlines()
    return sorted({line.split(" dev ")[1].split()[0] for line in routes if " dev veth" in line})


def unmount_below(*folders: Path) -> None:
    """Unmount all file systems at or below these folders, deepest first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    prefixes = tuple(str(folder) for folder in folders)
    below = [m for m in mounts if any(m == p or m.startswith(p + "/") for p in prefixes)]
    for mount in sorted(below, key=len, reverse=True):
        run("umount", "-l", mount, check=False)
