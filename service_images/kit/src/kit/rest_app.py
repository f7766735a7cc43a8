"""Makes an application and its OpenAPI document from REST operations, with FastAPI.

FastAPI validates paths, queries and bodies, and describes them. A thin layer changes some of FastAPI's behaviour:

- The caller is authenticated before the body is read, and a body is read only up to its limit.
- JSON is parsed strictly, for any content type, since later stores refuse some of what FastAPI's parser accepts.
- Invalid requests are answered with 400 and the error envelope instead of 422.
- Answers are serialized here, since with an Idempotency-Key the answer is stored with the operation's changes.
- Forms have limits of their own (`forms`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body, FastAPI, Header, Path, Query, Security
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from kit import forms, strict_json
from kit.directory import Grant, bearer
from kit.errors import ApiError, ErrorType
from kit.limits import BODY
from kit.rest import ANYBODY, Authenticate, Call, Operation, mistakes

if TYPE_CHECKING:
    from kit.repeats import Repeats

_MEANINGS = {
    400: "The request is invalid; `param` names the field.",
    401: "The API key is missing or unknown.",
    403: "The API key lacks the scope, or its holder lacks the right.",
    404: "The object does not exist.",
    409: "The state of the object does not allow the operation.",
    413: "The body is too large.",
    422: "The Idempotency-Key was used for another request.",
    429: "A limit is reached; retry later.",
    503: "The service, or one that it needs, is unavailable; retry later.",
    507: "The storage is full.",
}
_KEY = HTTPBearer(scheme_name="key", auto_error=False)
"""Security scheme of the document. The check itself is `_caller`, before the body is read."""
_REPEATED = Header(
    alias="Idempotency-Key",
    description="A repeat with the same key, within a day, changes nothing and returns the first answer.",
    json_schema_extra={"pattern": r"^[\x21-\x7e]{1,255}$"},
)
"""Header for the document only; `repeats` evaluates it."""
_ARRAY, _OBJECT = "Input should be a valid array", "Input should be an object"
_IN_JSON = {
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), _ARRAY),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "dataclass_type"), _OBJECT),
}
"""Messages by pydantic's error type. FastAPI validates parsed values, so its own messages name Python's types."""
_QUIET: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
"""FastAPI's own telemetry is off, since `app` traces, measures and logs requests in every service."""


class Failure(BaseModel):
    """Details of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """Body of all error answers."""

    error: Failure


def application(
    title: str,
    operations: Sequence[Operation],
    authenticate: Authenticate | None = None,
    repeats: Repeats | None = None,
    **more: Any,
) -> FastAPI:
    """The application of all operations, with /openapi.json. Without `authenticate`, every caller is `ANYBODY`.

    `repeats` stores the answers of creating operations. `more` contains arguments of Starlette's application.
    """
    by_path: dict[str, set[str]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, set()).update(_methods(operation))
    routes = [_Route(operation, by_path[operation.path], authenticate, repeats) for operation in operations]
    more["routes"] = [*more.get("routes", ()), *routes]
    made = FastAPI(title=title, docs_url=None, redoc_url=None, telemetry=_QUIET, **more)
    made.openapi = functools.cache(lambda: document(title, operations))
    return made


def document(title: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    found = get_openapi(title=title, version="1.0.0", routes=[_described(one) for one in operations])
    for operation in (one for path in found["paths"].values() for one in path.values()):
        if operation["responses"].get("422", {}).get("description") == "Validation Error":
            del operation["responses"]["422"]
        operation["responses"] = dict(sorted(operation["responses"].items()))
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operation in operations:
        if operation.form is not None:
            schemas.update(_form_schema(operation).get("$defs", {}))
    return found


def _methods(operation: Operation) -> set[str]:
    return {"GET", "HEAD"} if operation.method == "GET" else {operation.method}


class _Route(APIRoute):
    """One operation. `together`: methods of all operations with the same path."""

    def __init__(
        self,
        operation: Operation,
        together: set[str],
        authenticate: Authenticate | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        self._operation, self._together, self._authenticate = operation, together, authenticate
        # `_described` has the parts for the document only. FastAPI would derive unused checks from them here.
        endpoint = _endpoint(operation, repeats)
        super().__init__(operation.path, endpoint, methods=[operation.method], strict_content_type=False)
        self.methods = _methods(operation)

    async def handle(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer the request, or list the allowed methods of the path."""
        if scope["method"] not in self.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._together))})
        await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Any]:
        """FastAPI's handler, with authentication and body checks before it."""
        checked = super().get_route_handler()
        operation = self._operation

        async def handler(request: Request) -> Response:
            try:
                request.state.caller = await _caller(request, operation.scope, self._authenticate)
            except ApiError as error:
                error.challenge = operation.challenge if error.status == 401 else ""
                raise
            _check_query(request)
            if operation.body is not None and operation.form is None:
                request = await _received(request)
            try:
                return await checked(request)
            except RequestValidationError as error:
                raise mistakes(
                    [{**one, "msg": _IN_JSON.get(one["type"], one["msg"])} for one in error.errors()]
                ) from None

        return handler


async def _caller(request: Request, scope: str | None, authenticate: Authenticate | None) -> Grant:
    if scope is None or authenticate is None:
        return ANYBODY
    caller = await authenticate(bearer(request.headers))
    if not caller.allows(scope):
        raise ApiError(403, f'The API key lacks the scope "{scope}".', ErrorType.PERMISSION, code="missing_scope")
    return caller


def _check_query(request: Request) -> None:
    """Refuse queries that FastAPI would accept: repeated names, and U+0000, which no database accepts."""
    given: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name in given:
            raise ApiError(400, f"query {name}: the parameter occurs twice", param=name)
        if "\0" in name + value:
            raise ApiError(400, "query: a text contains the character U+0000", param=name.replace("\0", "") or None)
        given.add(name)


class _Received(Request):
    """A request whose body was read and parsed."""

    def __init__(self, request: Request, content: bytes, value: Any) -> None:
        # FastAPI parses a body as JSON depending on its content type; this class always does.
        headers = [(name, text) for name, text in request.scope["headers"] if name != b"content-type"]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._body, self._json = content, value


async def _received(request: Request) -> _Received:
    content = await _content(request)
    try:
        return _Received(request, content, strict_json.loads(content))
    except strict_json.BadJson as error:
        raise ApiError(400, f"body: {error}", param=error.path or None, code="invalid_json") from None


async def _content(request: Request) -> bytes:
    if int(request.headers.get("content-length") or 0) > BODY.most:
        raise ApiError(413, f"{BODY}.", code="body_too_large")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > BODY.most:
            raise ApiError(413, f"{BODY}.", code="body_too_large")
    return bytes(content)


def _endpoint(operation: Operation, repeats: Repeats | None) -> Callable[..., Awaitable[Response]]:
    """The function that FastAPI calls. FastAPI derives validation and description from its signature."""
    answer = TypeAdapter(operation.answer)

    async def answered(call: Call[Any, Any]) -> Response:
        result = await operation.handler(call)
        if isinstance(result, Response):
            return result
        if operation.status == 204:
            return Response(status_code=204)
        content = answer.dump_json(result, by_alias=True)
        return Response(content, operation.status, media_type="application/json")

    async def once(call: Call[Any, Any], content: bytes | FormData) -> Response:
        if operation.check is not None:
            await operation.check(call)
        if operation.makes and repeats is not None and (key := repeats.key_of(call.request)):
            known = content if isinstance(content, bytes) else await forms.digest(content)
            return await repeats.once(call.request, key, call.caller, known, lambda: answered(call))
        return await answered(call)

    async def endpoint(request: Request, query: Any, body: Any = None, **_: Any) -> Response:
        path, caller = dict(request.path_params), request.state.caller
        if operation.form is not None:
            async with forms.received(request, operation.form, caller.tenant) as form:
                return await once(Call(request, path, query, form, caller), form)
        content = await request.body() if operation.body is not None else b""
        return await once(Call(request, path, query, body, caller), content)

    endpoint.__name__ = operation.handler.__name__
    endpoint.__signature__ = inspect.Signature(_parameters(operation))  # type: ignore[attr-defined]
    return endpoint


def _parameters(operation: Operation) -> list[inspect.Parameter]:
    found: dict[str, Any] = {"request": Request}
    for name, pattern, meaning in operation.parameters:
        whole = f"(?:{pattern})" if "|" in pattern else pattern  # else the anchors miss inner alternatives
        found[name] = Annotated[str, Path(pattern=f"^{whole}$", description=meaning)]
    found["query"] = Annotated[operation.query, Query()]
    if operation.body is not None and operation.form is None:
        found["body"] = Annotated[operation.body, Body()]
    parameters = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=kind) for n, kind in found.items()]
    if operation.makes:
        kind: Any = Annotated[str | SkipJsonSchema[None], _REPEATED]
        parameters.append(inspect.Parameter("key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))
    return parameters


def _described(operation: Operation) -> APIRoute:
    """Route for the document only."""
    security = [Security(_KEY, scopes=[operation.scope] if operation.scope else [])]
    empty, json = operation.status == 204, operation.media == "application/json"
    responses = _failures(operation)
    if not empty and not json:
        responses[operation.status] = {"content": {operation.media: {"schema": {"type": "string"}}}}
    return APIRoute(
        operation.path,
        _endpoint(operation, None),
        methods=[operation.method],
        status_code=operation.status,
        summary=operation.summary,
        response_model=operation.answer if json and not empty else None,
        response_class=JSONResponse if json else Response,
        response_description="Success.",
        responses=responses,
        dependencies=security if operation.scope is not None else [],
        openapi_extra=_form(operation),
    )


def _failures(operation: Operation) -> dict[int | str, dict[str, Any]]:
    refusals = (401, 403) if operation.scope is not None else ()
    again = (409, 422) if operation.makes else ()
    statuses = (*operation.failures, *refusals, *again, 400, *([413] if operation.body is not None else []), 503)
    return {status: {"model": Error, "description": _MEANINGS[status]} for status in sorted(statuses)}


def _form_schema(operation: Operation) -> dict[str, Any]:
    return TypeAdapter(operation.body).json_schema(ref_template="#/components/schemas/{model}")


def _form(operation: Operation) -> dict[str, Any] | None:
    """Form part of the document. FastAPI would also parse a form that its own parameters describe."""
    if operation.form is None:
        return None
    schema = {name: value for name, value in _form_schema(operation).items() if name != "$defs"}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
