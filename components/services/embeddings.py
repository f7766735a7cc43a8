"""Embeddings: turns texts into vectors."""

from __future__ import annotations

from components.observability.panel import panel, rate
from components.services.record import Objectives, ServiceRecord

MODEL = "all-minilm-l6-v2"
"""Name of the embedding model for clients."""
VECTOR = 384
"""Dimension of the vectors. Source: sentence-transformers/all-MiniLM-L6-v2."""
RECORD = ServiceRecord(
    "embeddings",
    title="Embeddings",
    about="Turns texts into vectors",
    position=4,
    cache=True,
    objectives=Objectives(latency_seconds=5.0, latency_share=0.95),
    wheels=True,
    panels=(
        panel(
            "Vectors per second, by where they came from",
            "Vectors that were computed, and those that the cache had.",
            "ops",
            (rate("embeddings_vectors_total", "source"), "{{source}}"),
        ),
        panel(
            "Tokens per second, and padding",
            "Tokens of texts, and those that only fill up a batch. Much padding wastes CPU time.",
            "ops",
            (rate("embeddings_tokens_total", "kind"), "{{kind}}"),
        ),
    ),
)
