"""Texts from token ids: OpenAI's API takes arrays of tokens of cl100k_base, and LangChain's client sends them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kit.errors import ApiError

from embeddings.export import VOCABULARY


class Detokenizer:
    """One byte string that holds all tokens, and where each begins: 1.5 MB, where a list of them takes 6."""

    def __init__(self, folder: Path) -> None:
        self._content = (folder / VOCABULARY).read_bytes()
        places: list[int] = []
        place = 0
        while place < len(self._content):
            places.append(place)
            place += 1 + self._content[place]
        self._places = memoryview(b"".join(place.to_bytes(4, "little") for place in places)).cast("I")

    def text(self, tokens: Sequence[int], where: str) -> str:
        """The text of tokens; pieces of a character at their ends become U+FFFD. Raises ApiError(400)."""
        return b"".join(self._bytes(token, f"{where}.{number}") for number, token in enumerate(tokens)).decode(
            errors="replace"
        )

    def _bytes(self, token: int, where: str) -> bytes:
        if not 0 <= token < len(self._places):
            message = (
                f"{where}: {token} is no token of cl100k_base (0 to {len(self._places) - 1}). Send texts instead; with "
                "LangChain: check_embedding_ctx_length=False."
            )
            raise ApiError(400, message, param=where, code="invalid_token")
        place = self._places[token]
        return self._content[place + 1 : place + 1 + self._content[place]]
