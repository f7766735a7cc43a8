"""Embeddings: turns texts into vectors."""

from __future__ import annotations

from components.observability.alert import Panel
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
        Panel(
            "Vectors, by where they came from",
            "sum by (source) (rate(embeddings_vectors_total[$__rate_interval]))",
            "reqps",
        ),
        Panel("Tokens read, and padding", "sum by (kind) (rate(embeddings_tokens_total[$__rate_interval]))", "short"),
    ),
)
