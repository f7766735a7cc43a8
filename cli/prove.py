"""`forge prove`: renders an environment, and shows the proof about its access rights."""

from __future__ import annotations

from rich.markup import escape

from cli import documents, output, stack
from policies.access import proof
from policies.access.model import Kind
from policies.access.proof import Proof


def collect(name: str) -> Proof:
    """The proof about an environment. Raises LocalError for a stack file with mistakes."""
    config = stack.read_config(name)
    with output.waiting(f"rendering {name}"):
        from policies.access.render import render  # a late import: the SDKs of the providers take seconds to load

        rendered = render(config, name)
    return proof.prove(name, config, rendered)


def document(found: Proof) -> documents.AccessProof:
    """The proof as a JSON document."""
    return documents.AccessProof(
        stack=found.environment,
        proven=not found.counterexamples,
        layers=[
            documents.AccessLayer(
                name=result.layer.name,
                title=result.layer.title,
                accesses=[
                    documents.GrantedAccess(who=a.who, action=a.action, target=a.target, allowed_by=by)
                    for a, by in sorted(result.granted.items())
                ],
                counterexamples=[
                    documents.AccessCounterexample(
                        kind=one.kind.value,
                        who=one.access.who,
                        action=one.access.action,
                        target=one.access.target,
                        because=one.because,
                        object=one.object,
                    )
                    for one in result.counterexamples
                ],
            )
            for result in found.results
        ],
    )


def markdown(found: Proof, *, matrix: bool) -> str:
    """The matrix, or a comment for a pull request."""
    return proof.matrix(found) if matrix else proof.comment(found)


def show(found: Proof) -> None:
    """Print a table of the layers, and the counterexamples."""
    view = output.table("layer", "accesses", "excess", "missing", right=frozenset({"accesses", "excess", "missing"}))
    for result in found.results:
        counts = [sum(one.kind is kind for one in result.counterexamples) for kind in Kind]
        cells = [f"[red]{count}[/]" if count else "0" for count in counts]
        view.add_row(result.layer.title, str(len(result.granted)) if result.granted else "", *cells)
    output.console.print(view)
    output.console.print()
    for one in found.counterexamples:
        output.line(f"[red]{escape(str(one))}[/]", indent=2)
    count = len(found.counterexamples)
    if count:
        output.line(f"{count} counterexamples in {found.environment}.")
    else:
        output.line(f"No counterexamples: in {found.environment}, only what the records ask for is possible.")
