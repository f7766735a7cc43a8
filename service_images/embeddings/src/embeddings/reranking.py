"""How well texts answer a query: by their nearest sentences, not by what they are about on the whole.

A vector of a long passage is a mean over all that it says, in which one sentence that answers is lost. Each window of
sentences has a vector of its own here, and a passage is worth what its best window is, and a little of the whole. It is
MaxSim over sentences, after ColBERT's over tokens (Khattab, Zaharia, SIGIR 2020). MiniLM is no cross-encoder, which
would read both texts at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from embeddings.vectors import Long, Vectors

WHOLE = 0.2
"""Of the score: the passage as a whole."""
SHORT = 40
"""Characters; a shorter sentence goes with the next one."""
WINDOWS = 24
"""Of a text; what comes after them counts with the whole only."""
_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")


def windows(text: str) -> list[str]:
    """Its sentences; short ones go together."""
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
    """Over the same vectors as everything else: what was read before is in the cache."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    async def scores(self, query: str, texts: Sequence[str], *, long: Long = Long.SPLIT) -> list[float]:
        """A score from -1 to 1 for each text. Raises ApiError."""
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
