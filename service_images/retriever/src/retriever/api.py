"""Retriever's REST operations."""

from __future__ import annotations

from typing import Any, cast

from kit import rest
from kit.rest import Operation

from retriever.files import Files
from retriever.questions import Questions
from retriever.stores import Stores


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return rest.document("Retriever", Api.operations(cast("Api", Api)))


class Api(Files, Stores, Questions):
    """All handlers."""

    def operations(self) -> list[Operation]:
        """All of them; asked of the class itself they are described, and cannot be called."""
        parts = (Api.file_operations, Api.store_operations, Api.store_file_operations, Api.question_operations)
        return [operation for part in parts for operation in part(self)]
