"""REST operations, declared once: from them come routes, checks of what clients send, and the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit import forms, strict_json
from kit.directory import Grant, Scope, bearer
from kit.errors import ApiError, ErrorType, missing
from kit.limits import BODY

if TYPE_CHECKING:
    from kit.repeats import Repeats

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REPEATED = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that is sent again under it, within a day, does nothing twice and is answered the same.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
}
ANYBODY = Grant("default", scopes=(Scope.ADMIN,))
"""Who calls where nobody is asked for a key: whoever the gateway let in."""
_NAMES = {
    401: "No key that is known.",
    403: "The key may not do this.",
    400: "What was sent is wrong.",
    404: "There is no such thing.",
    409: "It is in another state.",
    413: "It is too large.",
    422: "The Idempotency-Key stood for another request.",
    503: "Later.",
}


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
    """The answer to who sends something that does not fit; `where` it was."""
    found = error.errors(include_url=False, include_context=False)
    paths = [".".join(str(part) for part in one["loc"]) for one in found]
    told = [
        f"{where}{f' {path}' if path else ''}: {one['msg']}{_given(one)}"
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


async def _received(request: Request) -> bytes:
    if int(request.headers.get("content-length") or 0) > BODY.most:
        raise ApiError(413, f"{BODY}.", code="body_too_large")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > BODY.most:
            raise ApiError(413, f"{BODY}.", code="body_too_large")
    return bytes(content)


def _parsed(content: bytes, adapter: TypeAdapter[Any] | None) -> Any:
    if adapter is None:
        return None
    try:
        strict_json.loads(content)
        return adapter.validate_json(content)
    except ValidationError as error:
        raise problem(error, "body") from None
    except strict_json.BadJson as error:
        raise ApiError(400, f"body: {error}", param=error.path or None, code="invalid_json") from None


def _query(request: Request, model: type[Model]) -> Model:
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise ApiError(400, f"query {name}: it is there twice", param=name)
        if "\0" in name + value:
            raise ApiError(400, "query: a text holds the character U+0000", param=name.replace("\0", "") or None)
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise problem(error, "query") from None


def routes(
    title: str,
    operations: Sequence[Operation],
    authenticate: Authenticate | None = None,
    repeats: Repeats | None = None,
) -> list[Route]:
    """The routes of all operations, and /openapi.json. Without `authenticate` every caller is `ANYBODY`.

    `repeats` keeps the answers of operations that make something.
    """
    described = document(title, operations)

    async def describe(_: Request) -> Response:
        return JSONResponse(described)

    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    found = [Route(path, _endpoint(own, authenticate, repeats), methods=list(own)) for path, own in by_path.items()]
    return [*found, Route("/openapi.json", describe)]


async def _caller(request: Request, scope: str | None, authenticate: Authenticate | None) -> Grant:
    if scope is None or authenticate is None:
        return ANYBODY
    caller = await authenticate(bearer(request.headers))
    if not caller.allows(scope):
        raise ApiError(403, f'The API key lacks the scope "{scope}".', ErrorType.PERMISSION, code="missing_scope")
    return caller


def _endpoint(
    operations: dict[str, Operation], authenticate: Authenticate | None, repeats: Repeats | None
) -> Callable[[Request], Awaitable[Response]]:
    adapters = {m: TypeAdapter(o.body) if o.body is not None and not o.form else None for m, o in operations.items()}
    answers = {m: TypeAdapter(o.answer) for m, o in operations.items()}

    async def answered(operation: Operation, call: Call[Any, Any]) -> Response:
        result = await operation.handler(call)
        if isinstance(result, Response):
            return result
        if operation.status == 204:
            return Response(status_code=204)
        content = answers[operation.method].dump_json(result, by_alias=True)
        return Response(content, operation.status, media_type="application/json")

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = operations[method]
        caller = await _caller(request, operation.scope, authenticate)
        for name, pattern, _ in operation.parameters:
            if not re.fullmatch(pattern, str(request.path_params[name])):
                raise ApiError(400, f"{name}: it must match {pattern}", param=name)
        query = _query(request, operation.query)
        if operation.form is not None:
            async with forms.received(request, operation.form, caller.tenant) as form:
                call = Call(request, dict(request.path_params), query, form, caller)
                return await once(operation, call, form)
        adapter = adapters[method]
        content = await _received(request) if adapter is not None else b""
        call = Call(request, dict(request.path_params), query, _parsed(content, adapter), caller)
        return await once(operation, call, content)

    async def once(operation: Operation, call: Call[Any, Any], content: bytes | FormData) -> Response:
        if operation.check is not None:
            await operation.check(call)
        if operation.makes and repeats is not None and (key := repeats.key_of(call.request)):
            known = content if isinstance(content, bytes) else await forms.digest(content)
            return await repeats.once(call.request, key, call.caller, known, lambda: answered(operation, call))
        return await answered(operation, call)

    return endpoint


def document(title: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {}
    for operation in operations:
        path = operation.path.replace(":path}", "}")
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation, schemas)
    info = {"title": title, "version": "1.0.0"}
    parts: dict[str, Any] = {"schemas": schemas}
    if any(operation.scope is not None for operation in operations):
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": parts}


def _schema(kind: Any, schemas: dict[str, Any], mode: Any) -> dict[str, Any]:
    found = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}", mode=mode)
    schemas.update(found.pop("$defs", {}))
    return found


def _described(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    refusals = (401, 403) if operation.scope is not None else ()
    again = (409, 422) if operation.makes else ()
    statuses = (*operation.failures, *refusals, *again, 400, *([413] if operation.body is not None else []), 503)
    text = {str(status): _NAMES.get(status, "Refused.") for status in statuses}
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers: dict[str, Any] = {s: {"description": d, "content": failure} for s, d in sorted(text.items())}
    json_answer = operation.media == "application/json"
    schema = _schema(operation.answer, schemas, "serialization") if json_answer else {"type": "string"}
    content = {} if operation.status == 204 else {"content": {operation.media: {"schema": schema}}}
    answers[str(operation.status)] = {"description": "Done.", **content}
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": meaning,
            "schema": {"type": "string", "pattern": f"^{pattern}$"},
        }
        for name, pattern, meaning in operation.parameters
    ]
    if operation.makes:
        parameters.append(_REPEATED)
    query = _schema(operation.query, schemas, "validation")
    for name, described in query.get("properties", {}).items():
        required = name in query.get("required", [])
        parameters.append({"name": name, "in": "query", "required": required, "schema": described})
    security = {"security": [{"key": []}]} if operation.scope is not None else {}
    found: dict[str, Any] = {"summary": operation.summary, **security, "parameters": parameters, "responses": answers}
    if operation.body is not None:
        kind = "multipart/form-data" if operation.form else "application/json"
        sent = {kind: {"schema": _schema(operation.body, schemas, "validation")}}
        found["requestBody"] = {"required": True, "content": sent}
    return found
