"""Prompt's gRPC method."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from cogniforge.prompt.v1 import prompt_pb2 as messages
from cogniforge.prompt.v1 import prompt_pb2_grpc as service
from kit import rest, rpc
from kit.errors import ApiError, missing
from pydantic import ValidationError

from prompt.api import Api
from prompt.models import NAMED, TENANT, Asked


class Calls(service.PromptServiceServicer):
    """gRPC methods for other services."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def add(self, server: Any) -> None:
        """Register the methods with a server."""
        service.add_PromptServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Render(self, request: messages.RenderRequest) -> messages.RenderResponse:
        """Same as the REST operation."""
        if not re.fullmatch(NAMED, request.name) or not re.fullmatch(TENANT, request.tenant):
            raise missing("prompt")  # neither a prompt nor a tenant can have such a name
        which = request.WhichOneof("which")
        chosen = {which: getattr(request, which)} if which else {}
        try:
            variables = msgspec.json.decode(request.variables) if request.variables else {}
            asked = Asked.model_validate({**chosen, "user": request.user, "variables": variables})
        except msgspec.DecodeError as error:
            raise ApiError(400, f"variables: {error}", param="variables") from None
        except ValidationError as error:
            raise rest.problem(error, "request") from None
        found = await self._api.rendered(request.tenant, request.name, asked)
        said = (
            [("system", found.prompt)] if isinstance(found.prompt, str) else [(m.role, m.content) for m in found.prompt]
        )
        return messages.RenderResponse(
            version=found.version,
            label=found.label,
            messages=[messages.Message(role=role, content=content) for role, content in said],
            config=json.dumps(found.config).encode(),
        )
