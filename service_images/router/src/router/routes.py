"""The route table: which upstream serves which model."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError


class ModelRoute(BaseModel):
    """One model and where it is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=256)
    """The name that clients use."""
    upstream: HttpUrl
    """Base URL of an OpenAI-compatible server, without /v1."""
    upstream_model: str = ""
    """The name that the upstream knows it by; empty: the same."""
    timeout_seconds: float = Field(default=60, gt=0, le=3600)
    """Limit from the request to the end of the answer."""
    owned_by: str = "cogniforge"


class RouteTable(BaseModel):
    """All routes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    routes: tuple[ModelRoute, ...] = Field(min_length=1)

    def find(self, model: str) -> ModelRoute | None:
        """The route of a model."""
        return next((route for route in self.routes if route.model == model), None)


class RouteTableError(Exception):
    """The route table cannot be used; the text says what is wrong where."""


def load(path: Path) -> RouteTable:
    """Read the table from a JSON file. Raises RouteTableError with every mistake in it."""
    try:
        return RouteTable.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RouteTableError(f"route table {path}: {error.strerror}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise RouteTableError(f"route table {path}: " + "; ".join(lines)) from None
