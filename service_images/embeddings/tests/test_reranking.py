"""Reranking orders texts by their relevance to a query, with the real model."""

from __future__ import annotations

import asyncio
import random

import numpy as np
from embeddings.batching import Batcher
from embeddings.engine import Engine
from embeddings.reranking import WINDOWS, Reranker, windows
from embeddings.vectors import Vectors
from hypothesis import given
from hypothesis import strategies as st
from kit.cache import Cache
from kit.settings import ServiceSettings

FACTS = (
    ("The warranty of the coffee machine ends after thirty months.", "How long is the espresso maker guaranteed?"),
    ("Refunds are paid within five working days to the card that was used.", "When do I get my money back?"),
    ("The pump stops by itself when the oil gets hotter than ninety degrees.", "Why did the pump switch off?"),
    ("Parcels above thirty kilograms are delivered to the kerb only.", "Will heavy packages be carried upstairs?"),
    ("Passwords have to be changed every ninety days.", "How often must I renew my login secret?"),
    ("The night shift begins at ten in the evening.", "At what time do people start working late?"),
    ("Guests may park in the yard behind the bakery.", "Where can visitors leave their car?"),
    ("Dogs are allowed in the restaurant on a leash.", "May I bring my pet to dinner?"),
    ("The museum is closed on Mondays and on Christmas Day.", "On which days can't I see the exhibition?"),
    ("Invoices are sent by electronic mail on the first of the month.", "How do bills reach customers?"),
    ("The bridge carries lorries of up to twelve tonnes.", "Which vehicles are too heavy for the crossing?"),
    ("Children below six years travel free of charge.", "Do toddlers need a ticket?"),
    ("The library lends books for four weeks.", "When must a borrowed novel be returned?"),
    ("Keep the vaccine between two and eight degrees.", "At what temperature is the shot stored?"),
    ("The lift is checked by an engineer every six months.", "How frequently is the elevator inspected?"),
    ("Members choose the chairwoman for three years.", "How long does the president stay in office?"),
)
FILLER = (
    "The company was founded by two brothers in a small town near the sea.",
    "Its first building still stands and is used as a store for wood.",
    "In the year of the flood most of the papers were lost.",
    "A report about the plans for the coming season will follow in spring.",
    "Many colleagues took part in the summer party beside the river.",
    "New windows were put in, and the roof was painted red.",
    "The committee thanks everybody who helped to prepare the meeting.",
    "Further details can be found in the annex to this document.",
    "The weather in the mountains was better than expected this year.",
    "An older edition of this text had another order of its chapters.",
)


def reranked(engine: Engine, query: str, texts: list[str]) -> tuple[list[float], list[float]]:
    """(scores of the reranker, cosines of the whole texts)."""

    async def run() -> tuple[list[float], list[float]]:
        batcher = Batcher(engine.run)
        running = asyncio.create_task(batcher.run())
        try:
            vectors = Vectors(engine, batcher, Cache(ServiceSettings(name="embeddings")))
            scores = await Reranker(vectors).scores(query, texts)
            (asked, *found), _ = await vectors.of([query, *texts])
            return scores, [float(asked @ vector) for vector in found]
        finally:
            running.cancel()

    return asyncio.run(run())


def mean_reciprocal_rank(scores: list[list[float]]) -> float:
    """Share of queries whose best text is the right one, at the same index."""
    ranks = [1 + sum(s > own[place] for s in own) for place, own in enumerate(scores)]
    return float(np.mean([1 / rank for rank in ranks]))


def test_a_sentence_that_answers_is_found_in_a_long_passage(engine: Engine) -> None:
    draw = random.Random(1)
    passages = []
    for fact, _ in FACTS:
        sentences = draw.sample(FILLER, 7)
        sentences.insert(draw.randrange(8), fact)
        passages.append(" ".join(sentences))
    both = [reranked(engine, query, passages) for _, query in FACTS]
    by_parts, by_whole = (mean_reciprocal_rank([one[n] for one in both]) for n in (0, 1))
    assert by_parts >= 0.9 > by_whole, (by_parts, by_whole)


@given(st.text())
def test_windows_hold_all_words_of_a_text_in_order(text: str) -> None:
    found = windows(text)
    words = " ".join(found).split()
    assert words == text.split()[: len(words)]
    assert len(found) <= WINDOWS
    if len(found) < WINDOWS:
        assert words == text.split()
