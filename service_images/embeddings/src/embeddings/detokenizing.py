"""Converts token IDs to texts: OpenAI's API accepts arrays of cl100k_base tokens, which LangChain's client sends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kit.errors import ApiError

from embeddings.export import VOCABULARY


class Detokenizer:
    """All tokens in one byte string with an index, which takes 1.5 MB; a list of tokens would take 6 MB."""

    def __init__(self, folder: Path) -> None:
        self._content = (folder / VOCABULARY).read_bytes()
        places: list[int] = []
        place = 0
        while place < len(self._content):
            places.append(place)
            place += 1 + self._content[place]
        self._places = memoryview(b"".join(place.to_bytes(4, "little") for place in places)).cast("I")

    def text(self, tokens: Sequence[int], where: str) -> str:
        """Text of tokens. Incomplete characters at the ends become U+FFFD. Raises ApiError(400)."""
        return b"".join(self._bytes(token, f"{where}.{number}") for number, token in enumerate(tokens)).decode(
            errors="replace"
        )

    def _bytes(self, token: int, where: str) -> bytes:
        if not 0 <= token < len(self._places):
            message = (
                f"{where}: {token} is not a token of cl100k_base (0 to {len(self._places) - 1}). Send texts; with "
                "LangChain: check_embedding_ctx_length=False."
            )
            raise ApiError(400, message, param=where, code="invalid_token")
        place = self._places[token]
        return self._content[place + 1 : place + 1 + self._content[place]]
