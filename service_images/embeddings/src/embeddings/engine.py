"""The embedding model: converts texts to tokens, and batches of tokens to vectors."""

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
"""Most tokens per text. The model was trained with this limit. Source: its sentence_bert_config.json."""
Vector = np.ndarray[Any, Any]


class Engine:
    """The loaded model. It runs one batch at a time, on all its threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Spinning idle threads would take CPU time from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """All tokens of the texts, including the two at beginning and end."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def run(self, batch: Sequence[Sequence[int]]) -> Vector:
        """One vector of length one per text."""
        longest = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (found,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return found


def shortened(tokens: list[int]) -> list[int]:
    """Tokens cut to the model's limit. The end token stays."""
    return tokens if len(tokens) <= MAX_TOKENS else [*tokens[: MAX_TOKENS - 1], tokens[-1]]


def pieces(tokens: list[int]) -> list[list[int]]:
    """A text's tokens in parts within the model's limit, each with the tokens at beginning and end."""
    if len(tokens) <= MAX_TOKENS:
        return [tokens]
    first, inner, last = tokens[0], tokens[1:-1], tokens[-1]
    count = -(-len(inner) // (MAX_TOKENS - 2))
    size = -(-len(inner) // count)  # equal lengths: a short last part would have little meaning
    return [[first, *inner[begin : begin + size], last] for begin in range(0, len(inner), size)]
