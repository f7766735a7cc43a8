"""REST operations, declared once. `rest_app` makes an application and the OpenAPI document of them, on FastAPI.

A declaration needs no FastAPI, so that processes that only share models do not load FastAPI.
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
"""Who calls where nobody is asked for a key: whoever the gateway let in."""
_MISTAKES = 20
"""So many are listed in one answer."""
_SHOWN = 60


class Model(BaseModel):
    """Base of bodies and queries: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Model):
    """No body, or no query."""


def _in_utc(time: datetime) -> datetime:
    """Databases know fewer time zones than RFC 3339 writes."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is before or after all years") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A point in time, in UTC."""


def _storable(content: dict[str, Any]) -> dict[str, Any]:
    return strict_json.check(content)


JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
"""Any JSON object that every later store takes: bodies are checked as a whole, this is for models used elsewhere."""

Query = TypeVar("Query", bound=Model)
Body = TypeVar("Body")
Handler = Callable[["Call[Any, Any]"], Awaitable[Any]]
Authenticate = Callable[[str], Awaitable[Grant]]
"""What the holder of an API key may do. Raises ApiError(401)."""


@dataclass(frozen=True)
class Call(Generic[Query, Body]):
    """One request, checked."""

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
    """With parameters in braces, as OpenAPI writes them."""
    summary: str
    handler: Handler
    answer: Any = dict[str, Any]
    """Type of the answer; what a handler returns is written as JSON, a Response as it is."""
    query: type[Model] = Nothing
    body: Any = None
    """Type of the body; None: there is none."""
    parameters: tuple[tuple[str, str, str], ...] = ()
    """(name, pattern, meaning) of each path parameter."""
    status: int = 200
    failures: tuple[int, ...] = ()
    """Statuses besides 400 and 503 that it may answer with."""
    media: str = "application/json"
    scope: str | None = None
    """What a caller's key must allow; None: no key is asked for."""
    challenge: str = ""
    """WWW-Authenticate of an answer 401: with "Basic", a browser asks for the key, as the password."""
    form: forms.Form | None = None
    """The body is a form, which the handler is given as `call.body`; `body` describes it."""
    makes: bool = False
    """It makes something: with an Idempotency-Key, once."""
    check: Handler | None = None
    """Judges a call, body included, before a transaction is open: for what may take long."""


def own(caller: Grant, tenant: str) -> str:
    """The tenant. Raises ApiError(404) where it is not the caller's: what other ones there are is nobody's business."""
    if not caller.operator and caller.tenant != tenant:
        raise missing("tenant")
    return tenant


def problem(error: ValidationError, where: str) -> ApiError:
    """The answer to a client that sends something that does not fit; `where` it was."""
    found = error.errors(include_url=False, include_context=False)
    return mistakes([{**one, "loc": (where, *one["loc"])} for one in found])


def mistakes(found: Sequence[Any]) -> ApiError:
    """Mistakes in pydantic's form; the first part of each place is "path", "query", "header" or "body"."""
    paths = [".".join(str(part) for part in one["loc"][1:]) for one in found]
    told = [
        f"{one['loc'][0]}{f' {path}' if path else ''}: {one['msg']}{_given(one)}"
        for path, one in zip(paths, found[:_MISTAKES], strict=False)
    ]
    more = f" (and {len(found) - _MISTAKES} more)" if len(found) > _MISTAKES else ""
    return ApiError(400, f"{'; '.join(told)}{more}", param=paths[0] or None)


def _given(mistake: Any) -> str:
    """The value that was sent, where it is short and helps."""
    value = mistake["input"]
    if mistake["type"] in ("missing", "extra_forbidden") or not isinstance(value, (str, int, float, bool)):
        return ""
    shown = repr(value)
    return f" (it is {shown})" if len(shown) <= _SHOWN else ""
