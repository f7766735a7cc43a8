"""`forge init`: writes the stack file of a new environment."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli import output
from components import sources
from local import paths
from local.errors import LocalError

if TYPE_CHECKING:
    from components.config.platform import Environment

Choice = TypeVar("Choice", bound=StrEnum)


class Where(StrEnum):
    """Kind of cluster that the environment runs on."""

    LOCAL = "local"
    EXISTING = "existing"
    EKS = "eks"


def run(
    name: Annotated[
        str, typer.Argument(help="Name of the environment, such as prod-eu. It is part of the file's name.")
    ],
    where: Annotated[
        Where | None,
        typer.Option("--on", help="Cluster: local (this machine), existing (kubeconfig) or eks (new, on AWS)."),
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Stage, which decides the policies: dev, staging or prod.")] = None,
    size: Annotated[str | None, typer.Option(help="Size of replicas and volumes: small, medium or large.")] = None,
    hosts: Annotated[list[str] | None, typer.Option("--host", help="Host name for clients; may be repeated.")] = None,
    owner: Annotated[str | None, typer.Option(help="Person or group responsible for the environment.")] = None,
    registry: Annotated[
        str | None, typer.Option(help="Host and path of the registry with the released images.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="kubeconfig context; with --on existing.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS region; with --on eks.")] = None,
    account: Annotated[str | None, typer.Option(help="AWS account ID, twelve digits; with --on eks.")] = None,
    admins: Annotated[
        list[str] | None,
        typer.Option("--admin", help="ARN of an administrator in IAM; with --on eks; may be repeated."),
    ] = None,
    vpc_cidr: Annotated[str | None, typer.Option(help="IPv4 network of the VPC; with --on eks.")] = None,
    build: Annotated[
        bool,
        typer.Option("--build", help="Build the images on this machine, for example for kind; with --on existing."),
    ] = False,
    port: Annotated[int | None, typer.Option(help="HTTPS port of the gateway.")] = None,
) -> None:
    """Write the stack file of a new environment to stacks/. Asks for values that no option gives."""
    from cli import environment_file as files
    from cli import project_files
    from components.config.cluster import ClusterKind
    from components.config.platform import Environment

    files.refuse_existing(name)
    if sources.INSTALLED:
        project_files.refuse_foreign(paths.PROJECT)
    kind = ClusterKind(_choose("--on", "Cluster", Where, where, Where.EKS).value)
    on_aws, local = kind is ClusterKind.EKS, kind is ClusterKind.LOCAL
    if build and kind is not ClusterKind.EXISTING:
        raise LocalError("--build requires an existing cluster", fix="add --on existing, or leave --build out")
    here = local or build  # on a developer's machine
    chosen = Environment.LOCAL if here else _stage(name, stage)
    file = files.write(
        files.Answers(
            name=name,
            kind=kind,
            stage=chosen,
            size=files.Size.SMALL if here else _choose("--size", "Size", files.Size, size, files.Size.SMALL),
            owner=_ask("--owner", "Person or group responsible", owner, "you" if here else "platform-team"),
            hosts=tuple(hosts or _list("--host", "Host names", "localhost" if here else f"api.{name}.example.com")),
            registry="" if local else _registry(registry, build),
            context=_ask("--context", "kubeconfig context", context) if kind is ClusterKind.EXISTING else "",
            region=_ask("--region", "AWS region", region, "us-east-1") if on_aws else "",
            account_id=_ask("--account", "AWS account ID", account) if on_aws else "",
            admins=tuple(admins or _list("--admin", "ARNs of administrators")) if on_aws else (),
            vpc_cidr=_ask("--vpc-cidr", "IPv4 network of the VPC", vpc_cidr, "10.20.0.0/16") if on_aws else "",
            port=port or (8443 if here else 443),
            built=build,
        )
    )
    if sources.INSTALLED and (new := project_files.write(paths.PROJECT)):
        output.line(f"Wrote {' and '.join(new)}: the Pulumi program of the environments in this folder.")
    output.line(f"Wrote stacks/{file.name}: {name}, of stage {chosen.value}.")
    output.line(f"Then: [bold]forge preview -s {name}[/], [bold]forge up -s {name}[/].")


def _registry(given: str | None, build: bool) -> str:
    if build:
        return _ask(
            "--registry", "Registry that this machine and the cluster can reach", given, "localhost:5001/cogniforge"
        )
    return _ask("--registry", "Registry of the released images", given)


def _stage(name: str, given: str | None) -> Environment:
    """A stage other than local. The default is the stage that the name begins with."""
    from components.config.platform import Environment

    stages = StrEnum("stages", {stage.name: stage.value for stage in Environment if stage is not Environment.LOCAL})
    proposed = next((stage for stage in stages if name.split("-")[0] == stage), stages("dev"))
    return Environment(_choose("--stage", "Stage", stages, given, proposed).value)


def _choose(flag: str, question: str, kind: type[Choice], given: str | None, default: Choice) -> Choice:
    options = ", ".join(kind)
    found = given or _ask(flag, f"{question} ({options})", None, default)
    try:
        return kind(found)
    except ValueError:
        raise LocalError(f'{flag}: "{found}" is not a valid value', fix=f"use one of: {options}") from None


def _list(flag: str, question: str, default: str | None = None) -> list[str]:
    return [part for part in _ask(flag, f"{question}, separated by commas", None, default).split(",") if part.strip()]


def _ask(flag: str, question: str, given: str | None, default: str | None = None) -> str:
    if given is not None:
        return given
    try:
        return str(typer.prompt(question, default=default)).strip()
    except typer.Abort:
        output.console.print()
        raise LocalError(
            f"{flag} is required; nothing was written", fix="add the option, or answer the question"
        ) from None
