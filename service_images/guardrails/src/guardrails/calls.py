"""Guardrails' gRPC methods."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from kit import genai, rpc
from kit.errors import ApiError
from kit.guard_policy import Action, Direction
from kit.limits import GUARD_PIECE, GUARD_SHAPED

from guardrails.answers import Form, action_of, finding_of
from guardrails.checking import AT_ONCE, Checker
from guardrails.decisions import Decisions
from guardrails.guard import Finding, Guard
from guardrails.policies import Policies
from guardrails.policy import Compiled
from guardrails.stream import Stream

SLICE = 8 * 1024
"""Most characters that are checked at once in the event loop, which takes about 1 ms."""


class Calls(service.GuardrailsServiceServicer):
    """gRPC methods for other services. The caller, which is authenticated, names the tenant."""

    def __init__(
        self, guard: Guard, policies: Policies, decisions: Decisions | None = None, checker: Checker | None = None
    ) -> None:
        self._guard, self._policies, self._decisions = guard, policies, decisions or Decisions(None)
        self._checker = checker or Checker(guard)

    def add(self, server: Any) -> None:
        """Register the methods with a server."""
        service.add_GuardrailsServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Check(self, request: messages.CheckRequest) -> messages.CheckResponse:
        """Check whole texts."""
        policy, direction = self._policies.of(request.tenant), _direction(request.direction)
        with genai.span("guard", direction.value, {}) as span:
            answer = await self._checked(request, policy, direction)
            span.set_attribute(genai.EVALUATION_SCORE_LABEL, messages.Action.Name(answer.action).lower())
            return answer

    async def _checked(
        self, request: messages.CheckRequest, policy: Compiled, direction: Direction
    ) -> messages.CheckResponse:
        found = await self._checker.check(
            request.tenant, policy, direction, request.texts, request.others, form=Form.RPC
        )
        self._decisions.tell(request.tenant, direction, found.action, found.kinds, rpc.metadata("x-request-id"))
        return messages.CheckResponse.FromString(found.content)

    @rpc.streams
    async def Stream(self, requests: AsyncIterator[messages.StreamRequest]) -> AsyncIterator[messages.StreamResponse]:
        """Check a text in pieces, with an answer per piece."""
        stream: Stream | None = None
        first: messages.StreamRequest | None = None
        kinds: Counter[str] = Counter()
        action = Action.ALLOW
        async for request in requests:
            if stream is None or first is None:
                first, policy = request, self._policies.of(request.tenant)
                stream = Stream(self._guard, policy, _direction(request.direction), answer=not request.other)
            if len(request.text) > GUARD_PIECE.most:
                raise ApiError(
                    413, f"A piece of a stream has at most {GUARD_PIECE.most:,} characters.", code="content_too_large"
                )
            if request.last and AT_ONCE < len(whole := stream.whole(request.text)) <= GUARD_SHAPED.most:
                found = await self._checker.beside(
                    first.tenant, policy, _direction(first.direction), [whole], form=Form.RPC
                )
                action, kinds = found.action, Counter(found.kinds)
                answer = messages.CheckResponse.FromString(found.content)
                yield messages.StreamResponse(action=answer.action, text=answer.texts[0], findings=answer.findings)
                break
            text, findings = await self._fed(stream, request.text, last=request.last)
            if request.late and not request.last:
                further, more = await self._checker.at_once(stream.late)
                text, findings = text + further, findings + more
            kinds.update(finding.kind for finding in findings)
            action = stream.action
            found = [finding_of(finding, 0) for finding in findings]
            yield messages.StreamResponse(action=action_of(action), text=text, findings=found)
            if request.last or action is Action.BLOCK:
                break
        if first is not None:
            about = rpc.metadata("x-request-id")
            self._decisions.tell(first.tenant, _direction(first.direction), action, kinds, about)

    async def _fed(self, stream: Stream, piece: str, *, last: bool) -> tuple[str, list[Finding]]:
        """(released text, findings) of a piece. Other tasks run between its slices."""
        going: list[str] = []
        reported: list[Finding] = []
        for place in range(0, len(piece) or 1, SLICE):
            if place:
                await asyncio.sleep(0)
            some = piece[place : place + SLICE]
            ends = last and place + SLICE >= len(piece)
            text, findings = await self._checker.at_once(functools.partial(stream.feed, some, last=ends))
            going.append(text)
            reported += findings
        return "" if stream.action is Action.BLOCK else "".join(going), reported


def _direction(value: int) -> Direction:
    return Direction.OUTPUT if value == messages.DIRECTION_OUTPUT else Direction.INPUT
