"""Tested changes from one version of a part to another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Risk(StrEnum):
    """Risk of a change from one version of a part to another."""

    SAFE = "safe"
    MANUAL = "manual-steps"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Transition:
    """A tested change between two versions of a part."""

    from_version: str
    to_version: str
    risk: Risk
    notes: str
    way_back: str = "set the old version and run `forge up`"


TRANSITIONS: dict[str, tuple[Transition, ...]] = {
    "image kafka": (
        Transition(
            "4.2",
            "4.3",
            Risk.SAFE,
            "brokers restart one by one; the metadata version stays; tested in tests/e2e under writes",
        ),
        Transition(
            "4.3",
            "4.2",
            Risk.MANUAL,
            "brokers restart one by one; impossible once kafka-features has raised the metadata version",
        ),
    ),
    "image kafka: debezium": (
        Transition(
            "3.3.0",
            "3.3.1",
            Risk.SAFE,
            "workers restart and continue from their offsets in Kafka; tested in tests/e2e under writes: no event is "
            "missing, and events of a key stay in order",
        ),
        Transition("3.3.1", "3.3.0", Risk.MANUAL, "both versions read offsets and slots"),
    ),
    "image nats": (
        Transition(
            "2.14", "2.15", Risk.SAFE, "both versions read JetStream's files; tested in tests/e2e with stored values"
        ),
        Transition("2.15", "2.14", Risk.MANUAL, "both versions read JetStream's files; newer stream settings are lost"),
    ),
    "image object-store": (
        Transition(
            "1.7",
            "1.8",
            Risk.SAFE,
            "one restart; objects, metadata and accounts stay; tested in tests/e2e under writes",
        ),
        Transition("1.8", "1.7", Risk.MANUAL, "one restart; both versions read the files"),
    ),
    "image postgres": (
        Transition(
            "16.11",
            "16.14",
            Risk.SAFE,
            "one restart; minor versions read the same files, and a database keeps its pgvector version until someone "
            "runs ALTER EXTENSION vector UPDATE; tested in tests/e2e under writes, with vectors and their index",
        ),
        Transition("16.14", "16.11", Risk.MANUAL, "one restart; impossible once ALTER EXTENSION has upgraded pgvector"),
    ),
    "image schema-registry": (
        Transition(
            "3.3.2",
            "3.3.3",
            Risk.SAFE,
            "one restart; both versions use the same tables; tested in tests/e2e under writes: schemas keep their ids",
        ),
        Transition("3.3.3", "3.3.2", Risk.MANUAL, "one restart; both versions use the same tables"),
    ),
    "kubernetes": (
        Transition(
            "1.32",
            "1.33",
            Risk.MANUAL,
            "1.33 has no Amazon Linux 2 images, and deprecates the Endpoints API",
        ),
        Transition("1.33", "1.34", Risk.MANUAL, "1.34 serves resource.k8s.io/v1; older DRA drivers stay on v1beta1"),
    ),
}
"""Tested changes by the part's key in `versions()`. "1.33" stands for all 1.33.x."""
