"""`forge up`, `down` and `reset`: tools, local node, images, platform, first answer."""

from __future__ import annotations

import shutil
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
from rich.text import Text

from cli import access, output, policy, preview_text, stack, upgrade
from cli import preview as previews
from cli.access import Access
from components.config.cluster import ClusterKind
from components.config.images import ImageSource
from components.config.platform import PlatformConfig
from local import paths
from local.errors import LocalError
from local.images import pipeline
from local.images.catalogue import IMAGES, ImageName, needed, own
from local.node import network, preflight, settings
from local.node.fetching import fetching
from local.node.node import Node
from local.toolchain import builder, packages
from local.toolchain.tools import TOOLS, ToolName

ANSWER_TIMEOUT_S = 30.0


def authority_file() -> Path:
    """File with the local CA certificate, for `curl --cacert`."""
    return access.folder("local") / "ca.pem"


def key_file() -> Path:
    """File with the API key of the local gateway. Its mode is 0600."""
    return access.folder("local") / "api-key"


def up(name: str, *, show_pulumi: bool = False, quiet: bool = False) -> None:
    """Start the environment and request a first answer. `quiet` hides the engine's output for other clusters."""
    config = stack.read_config(name)
    policy.refuse_lock_out(name, config)
    if config.cluster.kind is not ClusterKind.LOCAL:
        if config.images.source is ImageSource.LOCAL_BUILD:
            _build_for(config)
        stack.ensure(name)
        found = previews.collect(name)
        verdict = upgrade.check(name, found)
        if found.refused or verdict.blocked:
            preview_text.show(found, verdict)
            raise LocalError(
                f"this update of {name} is refused; nothing was changed", fix="correct the problems listed above"
            )
        stack.run(name, "up", quiet=quiet)
        return
    packages.require_root()
    stages = output.Stages(5)
    with stages.stage("Debian packages and Go tools"):
        preflight.check_disk(paths.state())
        if installed := packages.install():
            output.say(f"installed {', '.join(installed)}")
        builder.resolve_all(tools(config), output.BuildReport())
    node = Node(say=output.say)
    with stages.stage("Kubernetes node"):
        _check_gateway_port(node, config)
        node.up(_pause_image, mesh=config.own_mesh)
    with fetching(node.paths) as fetch:
        with stages.stage("Images: build, SBOM, sign"):
            mine = own(config.around.records.values())
            pipeline.build(needed(config.asked_images), output.say, own=mine, pushed=fetch)
        with stages.stage("pulumi up"):
            stack.ensure(name)
            _refuse_blocked(upgrade.check(name))
            # The refresh lets the update resume after an interrupted one.
            stack.run(name, "up", "--skip-preview", "--refresh", quiet=not show_pulumi)
    with stages.stage("First answer"):
        outputs = stack.outputs(name)
        found = access.write(name, outputs, config.models[0].name)
        answer = ask(outputs, config)
    _farewell(found, answer, stages.total)


def tools(config: PlatformConfig) -> list[ToolName]:
    """Go tools that the environment needs, in build order."""
    asked = {tool for name in config.asked_images for tool in IMAGES[name].tools}
    if config.own_mesh:
        asked.add(ToolName.ISTIO_CNI)
    return [tool.name for tool in TOOLS.values() if tool.name in asked or not tool.for_tests]


def _build_for(config: PlatformConfig) -> None:
    """Build the images for an existing cluster. Needs no root if Docker runs."""
    registry, mine = config.images.registry, own(config.around.records.values())
    with output.Stages(1).stage(f"Images: build, sign, push to {registry}"):
        # The cluster has its own pause image.
        names = [name for name in needed(config.asked_images) if name is not ImageName.PAUSE]
        pipeline.build(names, output.say, registry=registry, own=mine)


def _refuse_blocked(verdict: upgrade.Verdict) -> None:
    if verdict.blocked:
        print(upgrade.markdown(verdict), end="")
        raise LocalError(
            f"this update of {verdict.stack} is blocked: it would lose data or cannot be applied",
            fix="follow the steps in the table above; nothing was changed",
        )


def _pause_image() -> str:
    return pipeline.build([ImageName.PAUSE], output.say)[ImageName.PAUSE].reference


def _check_gateway_port(node: Node, config: PlatformConfig) -> None:
    balancer = next((p for p in node.processes() if p.name == "load-balancer"), None)
    if balancer is None or balancer.running() is None:
        preflight.check_ports({config.gateway.port: "the gateway"})


def ask(outputs: dict[str, Any], config: PlatformConfig) -> str:
    """Request a chat completion through the gateway, as a client does. Raises LocalError if there is no answer."""
    question = {
        "model": config.models[0].name,
        "messages": [{"role": "user", "content": "Hello, CogniForge!"}],
        "max_tokens": 16,
    }
    context = ssl.create_default_context(cadata=outputs["authority"])
    deadline, reason = time.monotonic() + ANSWER_TIMEOUT_S, ""
    with httpx.Client(
        verify=context, headers={"authorization": f"Bearer {outputs['apiKey']}"}, trust_env=False
    ) as client:
        while time.monotonic() < deadline:
            try:
                answer = client.post(f"{outputs['url']}/chat/completions", json=question, timeout=10)
                if answer.status_code == 200:
                    return str(answer.json()["choices"][0]["message"]["content"])
                reason = f"HTTP {answer.status_code}: {answer.text[:300]}"
            except httpx.HTTPError as error:
                reason = str(error)
            time.sleep(0.5)
    raise LocalError(
        "the gateway does not answer from this machine",
        reason=reason,
        fix="see `forge status` and `forge logs gateway`",
    )


def _farewell(found: Access, answer: str, total_s: float) -> None:
    console = output.console
    console.print(f"\n[bold green]The platform is up[/] after {output.duration(total_s)}.\n")
    output.line(f"  URL     {found.url}")
    console.print(Text(f"  answer  {answer.strip()}\n"))
    console.print("Try it:\n")
    print(access.curl(found), end="")  # without rich, which would wrap the lines
    console.print("\nThen: [bold]forge env[/], [bold]forge status[/], [bold]forge logs router[/], [bold]forge down[/].")


def down() -> None:
    """Stop the local node. All data stays for the next `forge up`."""
    packages.require_root()
    stopped = Node(say=output.say).down()
    output.console.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def reset() -> None:
    """Delete the local environment: cluster, images, keys and Pulumi state. Built tools stay cached."""
    packages.require_root()
    Node(say=output.say).reset()
    folder = paths.state()
    network.unmount_below(folder)  # a killed build leaves the mounts of its containers
    if folder.exists():
        shutil.rmtree(folder)
    output.console.print(f"removed {folder}")


def node_kubeconfig() -> Path:
    """Path of the administrator's kubeconfig for the local node."""
    return settings.NodePaths().kubeconfig
