"""REST operations of the Retriever service."""

from __future__ import annotations

from typing import Any, cast

from kit import dead_letters, rest_app
from kit.rest import Operation

from retriever.files import Files
from retriever.questions import Questions
from retriever.stores import Stores

PREFIX = "/v1/retriever"
"""Scope of the operators' operations."""


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return rest_app.document("Retriever", [*Api.operations(cast("Api", Api)), *dead_letters.operations(PREFIX)])


class Api(Files, Stores, Questions):
    """All handlers."""

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        parts = (Api.file_operations, Api.store_operations, Api.store_file_operations, Api.question_operations)
        return [operation for part in parts for operation in part(self)]
