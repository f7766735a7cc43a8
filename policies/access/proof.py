"""All layers of an environment together: the proof, its counterexamples, and the matrix for the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from components.config.platform import PlatformConfig
from policies.access import (
    buckets,
    cache,
    gateway,
    kafka,
    mesh,
    nats,
    network_intents,
    opa,
    postgres,
    rbac,
    secrets,
    store,
)
from policies.access.model import Access, Counterexample, Granted, Kind, Layer, compare
from policies.access.objects import Rendered

LAYERS: tuple[Layer, ...] = (
    gateway.LAYER,
    opa.LAYER,
    network_intents.LAYER,
    mesh.LAYER,
    kafka.LAYER,
    nats.LAYER,
    postgres.LAYER,
    cache.LAYER,
    buckets.LAYER,
    store.LAYER,
    secrets.LAYER,
    rbac.LAYER,
)


@dataclass(frozen=True)
class Result:
    """The result of one layer."""

    layer: Layer
    granted: Granted
    counterexamples: list[Counterexample]


@dataclass(frozen=True)
class Proof:
    """The results of all layers of an environment."""

    environment: str
    results: tuple[Result, ...]

    @property
    def counterexamples(self) -> list[Counterexample]:
        """Counterexamples of all layers."""
        return [one for result in self.results for one in result.counterexamples]


def prove(environment: str, config: PlatformConfig, rendered: Rendered, layers: Iterable[Layer] = LAYERS) -> Proof:
    """Compare what the rendered objects allow with what the records ask for, layer by layer."""
    results = list[Result]()
    for layer in layers:
        granted, counterexamples = compare(layer, config, rendered)
        results.append(Result(layer, granted, counterexamples))
    return Proof(environment, tuple(results))


def comment(proof: Proof) -> str:
    """The proof as Markdown, for a pull request."""
    found = proof.counterexamples
    verdict = f"{len(found)} counterexamples" if found else "no counterexamples"
    lines = [f"## Access in `{proof.environment}`: {verdict}", ""]
    accesses = ", ".join(f"{one.layer.title} {len(one.granted)}" for one in proof.results)
    lines += [f"The rendered objects allow these accesses: {accesses}.", ""]
    if found:
        lines += ["| Layer | Kind | Counterexample |", "|---|---|---|"]
        lines += [f"| {one.layer} | {one.kind} | {_cell(str(one))} |" for one in found] + [""]
    return "\n".join(lines)


def matrix(proof: Proof) -> str:
    """The accesses of all layers as Markdown, grouped by who has them."""
    lines = ["# Access", "", f"Generated from the rendered objects of `stacks/Pulumi.{proof.environment}.yaml`.", ""]
    lines += [
        f"Who can do what in the environment `{proof.environment}`. `forge prove` compares these tables with the",
        "services' records ([how](../explanation/access.md)).",
        "",
    ]
    for result in proof.results:
        lines += [f"## {result.layer.title}", "", result.layer.about, ""]
        if not result.granted:
            lines += ["This environment does not have this layer.", ""]
            continue
        lines += ["| who | can | what |", "|---|---|---|"]
        for (who, action), accesses in groupby(sorted(result.granted), key=lambda access: (access.who, access.action)):
            targets = ", ".join(f"`{_cell(access.target)}`" for access in accesses)
            lines.append(f"| {_cell(who)} | {_cell(action)} | {targets} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["LAYERS", "Access", "Counterexample", "Kind", "Proof", "Result", "comment", "matrix", "prove"]
