"""User's gRPC methods."""

from __future__ import annotations

from typing import Any, TypeVar

from cogniforge.user.v1 import user_pb2 as messages
from cogniforge.user.v1 import user_pb2_grpc as service
from kit import rest, rpc
from pydantic import BaseModel, ValidationError

from user.api import Api
from user.models import Listing, Question

Asked = TypeVar("Asked", bound=BaseModel)


class Calls(service.UserServiceServicer):
    """gRPC methods for other services, which act for their callers."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def add(self, server: Any) -> None:
        """Register the methods with a server."""
        service.add_UserServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Check(self, request: messages.CheckRequest) -> messages.CheckResponse:
        """Same as the REST operation."""
        caller = await self._api.authenticate(rpc.key())
        found = await self._api.checked(caller, _asked(Question, request, ("tenant", "object", "relation", "subject")))
        return messages.CheckResponse(allowed=found.allowed)

    @rpc.answers
    async def ListObjects(self, request: messages.ListObjectsRequest) -> messages.ListObjectsResponse:
        """Same as the REST operation."""
        caller = await self._api.authenticate(rpc.key())
        found = await self._api.listed(caller, _asked(Listing, request, ("tenant", "subject", "relation", "type")))
        return messages.ListObjectsResponse(objects=found.objects)


def _asked(model: type[Asked], request: Any, fields: tuple[str, ...]) -> Asked:
    try:
        return model.model_validate({field: getattr(request, field) for field in fields})
    except ValidationError as error:
        raise rest.problem(error, "request") from None
