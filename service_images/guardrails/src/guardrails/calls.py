"""Guardrails' gRPC methods."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from kit import rpc, telemetry
from kit.errors import ApiError
from kit.guard_policy import Action, Direction
from kit.limits import GUARD_PIECE

from guardrails.checking import Checker
from guardrails.guard import Finding, Guard
from guardrails.policies import Policies
from guardrails.policy import Compiled
from guardrails.stream import Stream
from guardrails.telling import Decisions


class Calls(service.GuardrailsServiceServicer):
    """For services; the tenant is the caller's word, whom the mesh has let in."""

    def __init__(
        self, guard: Guard, policies: Policies, decisions: Decisions | None = None, checker: Checker | None = None
    ) -> None:
        self._guard, self._policies, self._decisions = guard, policies, decisions or Decisions(None)
        self._checker = checker or Checker(guard)

    def add(self, server: Any) -> None:
        """To a server."""
        service.add_GuardrailsServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Check(self, request: messages.CheckRequest) -> messages.CheckResponse:
        """Whole texts."""
        policy, direction = self._policies.of(request.tenant), _direction(request.direction)
        with telemetry.genai("guard", direction.value, {}) as span:
            answer = await self._checked(request, policy, direction)
            span.set_attribute("gen_ai.evaluation.score.label", messages.Action.Name(answer.action).lower())
            return answer

    async def _checked(
        self, request: messages.CheckRequest, policy: Compiled, direction: Direction
    ) -> messages.CheckResponse:
        verdicts = await self._checker.check(request.tenant, policy, direction, request.texts, request.others)
        found = [_finding(finding, number) for number, verdict in enumerate(verdicts) for finding in verdict.findings]
        action = max((verdict.action for verdict in verdicts), default=Action.ALLOW)
        told = (finding for verdict in verdicts for finding in verdict.findings)
        self._decisions.tell(request.tenant, direction, action, told)
        return messages.CheckResponse(action=_action(action), texts=[v.text for v in verdicts], findings=found)

    @rpc.streams
    async def Stream(self, requests: AsyncIterator[messages.StreamRequest]) -> AsyncIterator[messages.StreamResponse]:
        """A text in pieces: an answer for each."""
        stream: Stream | None = None
        first: messages.StreamRequest | None = None
        told: list[Finding] = []
        async for request in requests:
            if stream is None or first is None:
                first, policy = request, self._policies.of(request.tenant)
                stream = Stream(self._guard, policy, _direction(request.direction), answer=not request.other)
            if len(request.text) > GUARD_PIECE.most:
                raise ApiError(
                    413, f"A piece of a stream has at most {GUARD_PIECE.most:,} characters.", code="content_too_large"
                )
            feed = functools.partial(stream.feed, request.text, last=request.last)
            text, findings = await self._checker.at_once(feed)
            told += findings
            found = [_finding(finding, 0) for finding in findings]
            yield messages.StreamResponse(action=_action(stream.action), text=text, findings=found)
            if request.last or stream.action is Action.BLOCK:
                break
        if stream is not None and first is not None:
            self._decisions.tell(first.tenant, _direction(first.direction), stream.action, told)


def _direction(value: int) -> Direction:
    return Direction.OUTPUT if value == messages.DIRECTION_OUTPUT else Direction.INPUT


def _action(action: Action) -> Any:
    return messages.Action.Value(f"ACTION_{action.name}")


def _finding(finding: Finding, number: int) -> messages.Finding:
    return messages.Finding(
        text=number,
        start=finding.start,
        end=finding.end,
        kind=finding.kind,
        category=finding.category.value,
        action=_action(finding.action),
    )
