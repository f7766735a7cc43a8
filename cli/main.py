"""The commands of `forge`.

Each imports what it needs when it runs: all together take longer to load than most commands to answer.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli import dead_letters, output
from components.catalogue import LOCK_FILE
from local import paths
from local.errors import LocalError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="CogniForge: an AI platform from one config file.")
app.add_typer(dead_letters.app, name="dead-letters")
Stack = Annotated[str, typer.Option("--stack", "-s", help="Environment: local, dev, staging or prod.")]


@app.command()
def doctor() -> None:
    """Check this machine: what is missing and how to get it."""
    from cli import doctor as doctor_checks

    found = doctor_checks.findings()
    for finding in found:
        mark = "[green]ok[/]  " if finding.ok else "[red]miss[/]"
        output.console.print(f"{mark} {finding.what}: {finding.found}")
        if not finding.ok:
            output.console.print(f"       fix: {finding.fix}")
    if any(not f.ok and f.required for f in found):
        raise typer.Exit(1)


@app.command()
def tools(
    tests: Annotated[bool, typer.Option("--tests", help="Those that only tests need, too.")] = False,
) -> None:
    """Install the Debian packages and build the Go tools that are missing, so that `up` and the tests find them."""
    from local.toolchain import builder, packages
    from local.toolchain.tools import TOOLS

    if installed := packages.install():
        output.say(f"installed {', '.join(installed)}")
    wanted = [tool.name for tool in TOOLS.values() if tests or not tool.for_tests]
    for name, path in builder.resolve_all(wanted, output.BuildReport()).items():
        output.console.print(f"[green]ok[/]  {name}: {path}")


@app.command()
def up(
    stack_name: Stack = "local",
    show_pulumi: Annotated[bool, typer.Option(help="Show Pulumi's own output.")] = False,
) -> None:
    """Bring the environment up; ends with the URL and a first answer. Refused where `upgrade-check` says blocked."""
    from cli import local_environment

    local_environment.up(stack_name, show_pulumi=show_pulumi)


@app.command()
def preview(
    stack_name: Stack = "local",
    comment: Annotated[bool, typer.Option("--comment", help="Write Markdown for a change request.")] = False,
    sarif: Annotated[Path | None, typer.Option(help="Write what policies say to this file, as SARIF.")] = None,
) -> None:
    """Show what would change and what the policies say; needs no cluster. Exit status 1 where `up` would be refused."""
    from cli import preview as previews
    from cli import stack, upgrade

    stack.read_config(stack_name)
    stack.ensure(stack_name)
    if not comment and sarif is None:
        stack.run(stack_name, "preview", *previews.policy_flags(stack_name))
        return
    found = previews.collect(stack_name)
    if sarif is not None:
        sarif.write_text(previews.sarif(found))
    verdict = upgrade.check(stack_name, found)
    if comment:
        print(previews.markdown(found))
        print(upgrade.markdown(verdict), end="")
    if found.refused or verdict.blocked:
        raise typer.Exit(1)


@app.command(name="upgrade-check")
def upgrade_check(stack_name: Stack = "local") -> None:
    """Say per part what an update means: safe, manual steps, blocked; and the way back. Exit status 1 if blocked."""
    from cli import preview as previews
    from cli import stack, upgrade

    stack.read_config(stack_name)
    stack.ensure(stack_name)
    found = previews.collect(stack_name)
    previews.refuse_errors(found)
    verdict = upgrade.check(stack_name, found)
    print(upgrade.markdown(verdict), end="")
    if verdict.blocked:
        raise typer.Exit(1)


@app.command()
def drift(stack_name: Stack = "local") -> None:
    """Show what was changed behind the platform's back; changes nothing. Exit status 2 if anything was."""
    from cli import drift as drifts
    from cli import stack

    stack.read_config(stack_name)
    stack.ensure(stack_name)
    found = drifts.find(stack_name)
    print(drifts.markdown(stack_name, found), end="")
    if found:
        raise typer.Exit(drifts.DRIFT_STATUS)


@app.command()
def promote(
    source: Annotated[str, typer.Argument(help="Environment whose release goes on: dev or staging.")],
    soak: Annotated[int, typer.Option(min=0, help="Minutes that the release must have run there.")] = 60,
    accept_manual: Annotated[bool, typer.Option(help="The manual steps of `upgrade-check` are done.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the gates only.")] = False,
) -> None:
    """Deploy to the next environment what runs well in this one; stops at the first gate that is shut."""
    from cli import preview as previews
    from cli import promotion, stack, upgrade
    from cli import status as status_view

    target = promotion.next_environment(source)
    if target is None:
        raise LocalError(f'there is nothing after "{source}"', fix=f"use one of: {', '.join(promotion.CHAIN[:-1])}")
    config = stack.read_config(source)
    deployed = stack.outputs(source).get("definition") if stack.exists(source) else None
    gates = promotion.definition_gates(source, deployed, config)
    if deployed:
        gates.append(promotion.soak_gate(source, promotion.history(source), soak, promotion.now()))
        rows = status_view.parts(None, config.cluster.context or None, [config.cluster.namespace])
        gates.append(promotion.health_gate(source, [row.name for row in rows if not row.healthy]))
        gates.append(promotion.drift_gate(source))
        stack.ensure(target)
        found = previews.collect(target)
        previews.refuse_errors(found)
        gates.append(promotion.upgrade_gate(upgrade.check(target, found), accept_manual))
    for gate in gates:
        mark = "[green]open[/]" if gate.passed else "[red]shut[/]"
        output.console.print(f"{mark} {gate.name}: {gate.found}")
        if not gate.passed:
            output.console.print(f"     fix: {gate.fix}")
    if not all(gate.passed for gate in gates):
        raise LocalError(f"{source} is not promoted to {target}", fix="see the gates that are shut")
    if not dry_run:
        up(target)


@app.command()
def repartition(
    pool_name: Annotated[str, typer.Argument(metavar="POOL", help="A name under cluster.gpuPools.")],
    apply: Annotated[bool, typer.Option("--apply", help="Do it, one node at a time; else the plan is shown.")] = False,
    stack_name: Stack = "prod",
    limit: Annotated[int, typer.Option(min=1, help="Seconds that one pod or node may take.")] = 600,
) -> None:
    """Cut a pool's GPUs as the configuration says; pods on GPUs that keep their layout go on running."""
    from kubernetes import client

    from cli import gpu_state, stack
    from cli import repartition as repartitions
    from cli import status as status_view

    config = stack.read_config(stack_name)
    pool = next((p for p in config.cluster.gpu_pools if p.name == pool_name), None)
    if pool is None:
        known = ", ".join(p.name for p in config.cluster.gpu_pools) or "there are none"
        raise LocalError(f'{stack_name} has no GPU pool "{pool_name}"', fix=f"use one of: {known}")
    core = client.CoreV1Api(status_view.connect(None, config.cluster.context or None))
    steps = repartitions.plan(core, pool, partial(gpu_state.metrics_of, core))
    for step in steps.steps:
        output.console.print(str(step))
    print(
        f"{len(steps.steps)} GPUs to cut, {len(steps.evicted)} pods to evict; {steps.untouched} GPUs stay as they are"
    )
    if apply:
        repartitions.carry_out(core, pool, steps, output.say, limit)


@app.command()
def destroy(stack_name: Stack = "local") -> None:
    """Delete the platform from its cluster; the local node itself stays. Refused while anything is protected."""
    from cli import stack

    stack.ensure(stack_name)
    stack.refuse_protected(stack_name)
    stack.run(stack_name, "destroy")


@app.command()
def status(stack_name: Stack = "local") -> None:
    """Show each part's version, health, image, CPU and memory. Exit status 1 if one is not healthy."""
    from cli import stack
    from cli import status as status_view
    from components.config.cluster import ClusterKind
    from local.node.node import Node
    from local.node.settings import NodePaths

    config = stack.read_config(stack_name)
    local = config.cluster.kind is ClusterKind.LOCAL
    kubeconfig = NodePaths().kubeconfig if local else None
    namespaces = [config.cluster.namespace, *(["kube-system"] if local else [])]
    processes = status_view.node_processes(Node()) if local else []
    if processes:
        output.console.print(status_view.table("Node", processes))
    rows = status_view.parts(kubeconfig, config.cluster.context or None, namespaces)
    output.console.print(status_view.table("Parts", rows))
    for row in rows:
        for detail in row.details:
            output.console.print(f"[red]{row.name}[/]: {detail}")
    output.console.print(f"Pulumi plugins: {status_view.plugins()}")
    if not all(row.healthy for row in [*processes, *rows]):
        raise typer.Exit(1)


@app.command()
def logs(
    part: Annotated[str, typer.Argument(help="A part such as router, or a node process with --node.")],
    node: Annotated[bool, typer.Option("--node", help="A process of the node itself.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 50,
    stack_name: Stack = "local",
) -> None:
    """Show the logs of a part."""
    from cli import stack
    from components.config.cluster import ClusterKind
    from local.node.node import Node
    from local.node.process import tail

    if node:
        known = {p.name: p for p in Node().processes()}
        if part not in known:
            raise LocalError(f'the node has no process "{part}"', fix=f"use one of: {', '.join(known)}")
        print("\n".join(tail(known[part].log_file, lines)))
        return
    config = stack.read_config(stack_name)
    command = [*kubectl(config.cluster.kind is ClusterKind.LOCAL, config.cluster.context), "logs"]
    command += ["--namespace", config.cluster.namespace, "--selector", f"app.kubernetes.io/name={part}"]
    command += ["--tail", str(lines), "--prefix", *(["--follow"] if follow else [])]
    result = subprocess.run(command)
    if result.returncode != 0:
        raise LocalError(f'no logs of "{part}"', fix="see `forge status` for the parts")


def kubectl(local: bool, context: str) -> list[str]:
    """The kubectl of the node's binary, pointed at the environment's cluster."""
    from local.node.settings import NodePaths
    from local.toolchain import builder
    from local.toolchain.tools import ToolName

    base = [str(builder.resolve(ToolName.NODE)), "kubectl"]
    if local:
        return [*base, "--kubeconfig", str(NodePaths().kubeconfig)]
    return [*base, *(["--context", context] if context else [])]


@app.command(
    name="kubectl",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def kubectl_command(context: typer.Context) -> None:
    """Run kubectl against the local node."""
    # As they were typed: the parser takes away the "--" that tells kubectl's options from a command's.
    typed = sys.argv[sys.argv.index("kubectl") + 1 :] if "kubectl" in sys.argv else context.args
    raise typer.Exit(subprocess.run([*kubectl(True, ""), *typed]).returncode)


@app.command()
def restore(
    until: Annotated[str, typer.Argument(help="The moment to go back to, with its zone: 2026-11-24T18:00:00Z.")],
    stack_name: Stack = "local",
    limit: Annotated[int, typer.Option(min=1, help="Seconds that it may take.")] = 900,
) -> None:
    """Take PostgreSQL back to a moment. What was there before is kept on its volume."""
    from cli import restore as restores
    from cli import stack
    from components.config.cluster import ClusterKind

    config = stack.read_config(stack_name)
    if config.data.postgres is None or config.data.object_store is None:
        raise LocalError(f"{stack_name} has no PostgreSQL with backups", fix="add data.postgres and data.objectStore")
    if config.data.postgres.rds:
        raise LocalError(
            f"PostgreSQL of {stack_name} runs at RDS, which goes back by itself",
            fix="`aws rds restore-db-instance-to-point-in-time` makes a new instance; see docs/how-to/data.md",
        )
    command = kubectl(config.cluster.kind is ClusterKind.LOCAL, config.cluster.context)
    restores.restore(command, config.cluster.namespace, until, output.say, limit)
    print(f"PostgreSQL is as it was at {until}")


@app.command()
def images(
    rebuild: Annotated[bool, typer.Option(help="Build all again, whatever the record says.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Those for GPU nodes too: 5 GB of downloads.")] = False,
) -> None:
    """Build and sign the images; lists their digests."""
    from local.images import pipeline
    from local.images.catalogue import LOCAL, ImageName

    if rebuild:
        pipeline.forget()
    for built in pipeline.build(list(ImageName) if gpu else LOCAL, output.say).values():
        print(f"{built.name:15} {built.digest} {'signed' if built.signed else ''}")


@app.command()
def release(
    registry: Annotated[str, typer.Argument(help="host[:port][/path], as images.registry of the stack files has it.")],
    lock: Annotated[Path, typer.Option(help="The lock file that gets the digests.")] = LOCK_FILE,
    gpu: Annotated[bool, typer.Option("--gpu", help="Images for GPU nodes too.")] = False,
) -> None:
    """Push the signed images with SBOM and provenance to a registry, and lock their digests."""
    from cli import release as releases
    from local.images import pipeline
    from local.images.catalogue import IMAGES, LOCAL, ImageName

    releases.check_registry(registry)
    wanted = [name for name in (ImageName if gpu else LOCAL) if IMAGES[name].runs and name is not ImageName.PAUSE]
    found = pipeline.build(wanted, output.say)
    built = {str(name): found[name] for name in wanted}
    releases.refuse_changed(built, lock)
    for reference in releases.push(built, registry, lock, output.say).values():
        print(reference)


@app.command()
def down() -> None:
    """Stop the local node; data stays."""
    from cli import local_environment

    local_environment.down()


@app.command()
def reset() -> None:
    """Delete the local environment and all its data; built tools stay cached."""
    from cli import local_environment

    local_environment.reset()


def main() -> None:
    """Entry point: errors that the user can mend are shown without a traceback."""
    try:
        app(standalone_mode=True)
    except LocalError as error:
        output.show_error(error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        output.errors.print("\ninterrupted: nothing is lost, the same command goes on from here")
        raise SystemExit(130) from None
    except Exception as error:  # a fault of ours: keep the details for a report, show one line
        log = paths.state() / "crash.log"
        paths.write_private(log, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        fix = f"run the same command again; if it happens again, report it with {log}"
        output.show_error(LocalError("forge met something that it does not know", reason=reason, fix=fix))
        raise SystemExit(1) from None
