"""The model: texts to tokens, batches of tokens to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from embeddings.export import GRAPH, TOKENIZER

MODEL = "all-minilm-l6-v2"
DIMENSION = 384
MAX_TOKENS = 256
"""Of a text; the model was trained with no more. Source: its sentence_bert_config.json."""
Vector = np.ndarray[Any, Any]


class Engine:
    """Loaded once; runs one batch at a time on all threads it was given."""

    def __init__(self, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Idle threads that spin would take the cores from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The whole texts' tokens, the two at begin and end included."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def run(self, batch: Sequence[Sequence[int]]) -> Vector:
        """A vector of length one for each."""
        longest = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (found,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return found


def shortened(tokens: list[int]) -> list[int]:
    """At most as many as the model takes; the one at the end stays."""
    return tokens if len(tokens) <= MAX_TOKENS else [*tokens[: MAX_TOKENS - 1], tokens[-1]]


def pieces(tokens: list[int]) -> list[list[int]]:
    """A text's tokens in parts that the model takes, each with the tokens at begin and end."""
    if len(tokens) <= MAX_TOKENS:
        return [tokens]
    first, inner, last = tokens[0], tokens[1:-1], tokens[-1]
    count = -(-len(inner) // (MAX_TOKENS - 2))
    size = -(-len(inner) // count)  # all of about the same length: a short rest would weigh little and say little
    return [[first, *inner[begin : begin + size], last] for begin in range(0, len(inner), size)]
