"""The Router's less frequent operations: list of models, token counts, feedback."""

from __future__ import annotations

import datetime
from typing import Any

from kit.directory import bearer, unknown
from kit.errors import ApiError, ErrorType
from kit.limits import BODY
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router import anthropic, payload, token_count
from router.core import Core
from router.routes import ModelRoute
from router.tenancy import Account, digest_of

CREATED = 1_767_225_600
"""`created` of every model: the API requires a time, but a route has none."""
MAX_BODY_BYTES = 64 * 1024
CHECK_TIMEOUT_S = 2.0


class Feedback(BaseModel):
    """A user's rating of an answer."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(min_length=1, max_length=128)
    """The x-request-id of the answer."""
    score: float = Field(ge=0, le=1)
    """0: useless; 1: exactly right."""


async def _body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ApiError(413, f"The body is larger than {most} bytes.", code="body_too_large")
    return bytes(body)


class RouterApi:
    """Handlers that use the Router's state."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def routes(self) -> list[Route]:
        """Routes of these operations."""
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/feedback", self.feedback, methods=["POST"]),
            Route(token_count.PATH, self.count_tokens, methods=["POST"]),
        ]

    @staticmethod
    def _describe(route: ModelRoute) -> dict[str, Any]:
        ours = {"id": route.model, "object": "model", "created": CREATED, "owned_by": route.owned_by}
        # Additional fields that Anthropic's clients read.
        created = datetime.datetime.fromtimestamp(CREATED, datetime.UTC).isoformat().replace("+00:00", "Z")
        return {**ours, "type": "model", "display_name": route.model, "created_at": created}

    def _account(self, request: Request) -> Account:
        return self._caller(request)[0]

    def _caller(self, request: Request) -> tuple[Account, bytes]:
        """Return the caller's account and the digest of the key."""
        digest = digest_of(bearer(request.headers).encode())
        account = self._core.accounts.of(digest, request.headers.get("x-client-id", "").encode())
        if account is None:
            raise unknown()
        return account, digest

    async def models(self, request: Request) -> Response:
        """List the models that the caller may use."""
        allowed = self._account(request).models
        routes = [route for route in self._core.table.routes if not allowed or route.model in allowed]
        listed = [self._describe(route) for route in routes]
        ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {}
        return JSONResponse({"object": "list", "data": listed, "has_more": False, **ends})

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        name, allowed = request.path_params["model"], self._account(request).models
        route = self._core.table.find(name)
        if route is None or (allowed and name not in allowed):
            message = f"The model `{name[:256]}` does not exist."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_found")
        return JSONResponse(self._describe(route))

    async def count_tokens(self, request: Request) -> Response:
        """Count the tokens of a request in Anthropic's format; errors have that format too."""
        request_id = request.headers.get("x-request-id", "")
        try:
            tokens = await self._counted(request)
        except ApiError as error:
            answer = Response(anthropic.error(error, request_id), error.status, media_type="application/json")
        else:
            answer = JSONResponse({"input_tokens": tokens})
        if payload.is_request_id(request_id.encode()):
            answer.headers["request-id"] = request_id
        return answer

    async def _counted(self, request: Request) -> int:
        account = self._account(request)
        if (wait := account.ask(self._core.now())) > 0:
            message = f"Too many requests per minute; try again in {wait:.0f} s."
            raise ApiError(429, message, ErrorType.RATE_LIMIT, code="rate_limit_exceeded")
        chat = anthropic.counted(await _body(request, BODY.most))
        route = self._core.routes.get(chat["model"])
        if route is None or (account.models and chat["model"] not in account.models):
            message = f"The model `{chat['model'][:256]}` does not exist."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_found")
        return await token_count.count(route, chat)

    async def feedback(self, request: Request) -> Response:
        """Accept feedback for a bandit route from the client that sent the request; others' ids are unknown."""
        account, digest = self._caller(request)
        try:
            given = Feedback.model_validate_json(await _body(request))
        except ValidationError as error:
            first = error.errors()[0]
            param = ".".join(map(str, first["loc"])) or None
            raise ApiError(400, f"{param or 'body'}: {first['msg']}", param=param, code=first["type"]) from None
        if not self._core.feedback(account.label, digest, given.request_id, given.score):
            message = "No recent answer of a bandit route to this key has this request_id."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="request_id", code="request_not_found")
        return Response(status_code=204)

    async def upstreams(self) -> str | None:
        """Readiness: at least one target answers. One model's failure must not affect the others."""
        last = "no routes"
        for model, route in self._core.routes.items():
            for target in route.targets:
                if target.outside:
                    return None  # a provider's availability does not decide this service's readiness
                try:
                    status = await target.ask(CHECK_TIMEOUT_S)
                    if status < 500:
                        return None
                    last = f"{model}: HTTP {status}"
                except (ConnectionError, TimeoutError) as error:
                    last = f"{model}: {error!r}"
        return last
