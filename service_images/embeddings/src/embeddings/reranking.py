"""Reranking: scores texts by their best matching sentences for a query.

The vector of a long passage is a mean over its whole content, in which a single answering sentence has little weight.
Here, each window of sentences has its own vector, and a passage's score is that of its best window, plus a small part
for the whole passage. This is MaxSim over sentences, like ColBERT's over tokens (Khattab, Zaharia, SIGIR 2020). MiniLM
is not a cross-encoder, which would read query and text together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from embeddings.vectors import Long, Vectors

WHOLE = 0.2
"""Weight of the whole passage in the score."""
SHORT = 40
"""Least characters of a window. A shorter sentence is joined with the next one."""
WINDOWS = 24
"""Most windows of a text. The rest counts only as part of the whole passage."""
_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")


def windows(text: str) -> list[str]:
    """Sentences of a text. Short ones are joined."""
    found: list[str] = []
    waiting = ""
    for part in _ENDS.split(text):
        waiting = f"{waiting} {part.strip()}".strip()
        if len(waiting) >= SHORT:
            found.append(waiting)
            waiting = ""
    if waiting:
        found.append(waiting)
    return found[:WINDOWS]


class Reranker:
    """Computes scores with cached vectors."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    async def scores(self, query: str, texts: Sequence[str], *, long: Long = Long.SPLIT) -> list[float]:
        """One score from -1 to 1 per text. Raises ApiError."""
        parts = [windows(text) for text in texts]
        every = list(dict.fromkeys((query, *texts, *(part for own in parts for part in own))))
        found, _ = await self._vectors.of(every, long=long)
        by_text = dict(zip(every, found, strict=True))
        asked = by_text[query]
        scores: list[float] = []
        for text, own in zip(texts, parts, strict=True):
            whole = float(asked @ by_text[text])
            best = float(np.max([asked @ by_text[part] for part in own])) if own else whole
            scores.append(WHOLE * whole + (1 - WHOLE) * best)
        return scores
