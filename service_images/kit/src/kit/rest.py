"""Declarations of REST operations. `rest_app` makes an application and the OpenAPI document from them with FastAPI.

A declaration does not need FastAPI, so that processes that only share models do not load it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from kit import forms, strict_json
from kit.directory import Grant, Scope
from kit.errors import ApiError, missing

ANYBODY = Grant("default", scopes=(Scope.ADMIN,))
"""Caller in an installation without API keys: everybody whom the gateway admits."""
_MISTAKES = 20
"""Maximum number of mistakes in one answer."""
_SHOWN = 60


class Model(BaseModel):
    """Base of bodies and queries. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Model):
    """Type of an absent body or query."""


def _in_utc(time: datetime) -> datetime:
    """Convert to UTC, because databases know fewer time zones than RFC 3339 allows."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("the year in UTC is not between 1 and 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A point in time, in UTC."""


def _storable(content: dict[str, Any]) -> dict[str, Any]:
    return strict_json.check(content)


JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
"""A JSON object that every later store accepts. Bodies are checked as a whole; use this for other models."""

Query = TypeVar("Query", bound=Model)
Body = TypeVar("Body")
Handler = Callable[["Call[Any, Any]"], Awaitable[Any]]
Authenticate = Callable[[str], Awaitable[Grant]]
"""Returns the rights of an API key's holder. Raises ApiError(401)."""


@dataclass(frozen=True)
class Call(Generic[Query, Body]):
    """One validated request."""

    request: Request
    path: dict[str, Any]
    query: Query
    body: Body
    caller: Grant = ANYBODY


@dataclass(frozen=True)
class Operation:
    """One operation of a service."""

    method: str
    path: str
    """Path with parameters in braces, as in OpenAPI."""
    summary: str
    handler: Handler
    answer: Any = dict[str, Any]
    """Type of the answer. The handler's result is written as JSON, except for a Response, which is sent unchanged."""
    query: type[Model] = Nothing
    body: Any = None
    """Type of the body; None if there is no body."""
    parameters: tuple[tuple[str, str, str], ...] = ()
    """(name, pattern, meaning) of each path parameter."""
    status: int = 200
    failures: tuple[int, ...] = ()
    """Possible error statuses besides 400 and 503."""
    media: str = "application/json"
    scope: str | None = None
    """Scope that the caller's key needs; None if the operation needs no key."""
    challenge: str = ""
    """WWW-Authenticate of a 401 answer. With "Basic", a browser asks its user for the key as a password."""
    form: forms.Form | None = None
    """The body is a form, which the handler receives as `call.body`; `body` describes it."""
    makes: bool = False
    """The operation creates something; an Idempotency-Key makes that happen once."""
    check: Handler | None = None
    """Slow validation of a call, body included, before the transaction is opened."""


def own(caller: Grant, tenant: str) -> str:
    """The tenant, if the caller may see it. Otherwise raises ApiError(404), which does not reveal that it exists."""
    if not caller.operator and caller.tenant != tenant:
        raise missing("tenant")
    return tenant


def problem(error: ValidationError, where: str) -> ApiError:
    """Error for an invalid part of a request. `where`: "path", "query", "header" or "body"."""
    found = error.errors(include_url=False, include_context=False)
    return mistakes([{**one, "loc": (where, *one["loc"])} for one in found])


def mistakes(found: Sequence[Any]) -> ApiError:
    """Error for pydantic's list of mistakes. Each location begins with "path", "query", "header" or "body"."""
    paths = [".".join(str(part) for part in one["loc"][1:]) for one in found]
    parts = [
        f"{one['loc'][0]}{f' {path}' if path else ''}: {one['msg']}{_given(one)}"
        for path, one in zip(paths, found[:_MISTAKES], strict=False)
    ]
    more = f" (and {len(found) - _MISTAKES} more)" if len(found) > _MISTAKES else ""
    return ApiError(400, f"{'; '.join(parts)}{more}", param=paths[0] or None)


def _given(mistake: Any) -> str:
    """The received value, if it is short and helps."""
    value = mistake["input"]
    if mistake["type"] in ("missing", "extra_forbidden") or not isinstance(value, (str, int, float, bool)):
        return ""
    shown = repr(value)
    return f" (received {shown})" if len(shown) <= _SHOWN else ""
