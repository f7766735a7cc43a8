"""Plans the change of a MIG layout: which GPUs must be drained, in which order, and which stay in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.cluster.mig import Layout, describe


@dataclass(frozen=True)
class Step:
    """The change of one GPU: evict its pods, apply the new layout, admit pods again."""

    node: str
    gpu: int
    before: Layout
    after: Layout
    evict: tuple[str, ...]
    """Pods that use a slice of this GPU, as namespace/name."""

    def __str__(self) -> str:
        pods = f"evict {', '.join(self.evict)}" if self.evict else "no pods to evict"
        return f"{self.node} GPU {self.gpu}: {describe(self.before)} -> {describe(self.after)} ({pods})"


@dataclass(frozen=True)
class Repartition:
    """The plan for a pool: ordered steps, one GPU of one node at a time."""

    steps: tuple[Step, ...]
    untouched: int
    """GPUs that keep their layout and pods."""

    @property
    def evicted(self) -> tuple[str, ...]:
        """All pods that are evicted."""
        return tuple(pod for step in self.steps for pod in step.evict)


def repartition(
    before: Mapping[str, Sequence[Layout]],
    after: Sequence[Layout],
    pods: Mapping[tuple[str, int], Sequence[str]],
) -> Repartition:
    """Plan the change from the nodes' current layouts to the pool's new ones.

    `before`: layouts of each node's GPUs. `pods`: pods by (node, GPU). Nodes with the fewest pods to evict come first,
    so that evicted pods find room on nodes that are finished already.
    """
    steps: list[Step] = []
    total = 0
    for node, layouts in before.items():
        total += len(layouts)
        for index, (old, new) in enumerate(zip(layouts, after, strict=True)):
            if old != new:
                steps.append(Step(node, index, old, new, tuple(pods.get((node, index), ()))))
    load = {node: sum(len(s.evict) for s in steps if s.node == node) for node in before}
    steps.sort(key=lambda s: (load[s.node], s.node, len(s.evict), s.gpu))
    return Repartition(tuple(steps), total - len(steps))
