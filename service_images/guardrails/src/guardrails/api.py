"""REST operations of the Guardrails service."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, cast

import msgspec
from kit import rest_app
from kit.directory import Scope
from kit.errors import ApiError
from kit.guard_policy import KINDS, Category, Direction, Policy
from kit.rest import Call, Model, Operation
from pydantic import Field
from starlette.responses import Response

from guardrails.answers import Form
from guardrails.checking import Checker
from guardrails.decisions import Decisions
from guardrails.policies import Policies
from guardrails.policy import Compiled

SCOPE = Scope.GUARDRAILS
MAX_TEXTS = 256
Text = Annotated[str, Field(max_length=1_000_000)]


class Asked(Model):
    """Texts to check."""

    text: Text | None = None
    texts: Annotated[tuple[Text, ...], Field(max_length=MAX_TEXTS)] = ()
    direction: Direction = Direction.INPUT
    policy: Policy | None = None
    """Policy to apply instead of the tenant's own, for a trial."""


class TextFinding(Model):
    """One finding: `text` is the index of its text, `start` and `end` are characters in that text."""

    text: int
    start: int
    end: int
    kind: str
    category: Category
    action: str


class Answer(Model):
    """The policy's decision about the texts."""

    action: str
    texts: list[str]
    """The texts as they may be passed on, with findings masked."""
    findings: list[TextFinding]


class Part(Model):
    """One part of an input."""

    type: Annotated[str, Field(pattern="^text$")]
    text: Text


class Moderation(Model):
    """Request in OpenAI's format."""

    input: (
        Text
        | Annotated[tuple[Text, ...], Field(max_length=MAX_TEXTS)]
        | Annotated[tuple[Part, ...], Field(max_length=MAX_TEXTS)]
    )
    model: Annotated[str, Field(max_length=256)] = "cogniforge-guardrails"


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return rest_app.document("Guardrails", Api.operations(cast("Api", Api)))


class Api:
    """The operations."""

    def __init__(self, checker: Checker, policies: Policies, decisions: Decisions) -> None:
        self._checker, self._policies, self._decisions = checker, policies, decisions

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        return [
            Operation("POST", "/v1/guard/check", "Apply a policy to texts.", self.check, Answer, body=Asked,
                      scope=SCOPE),
            Operation("POST", "/v1/moderations", "Classify harmful texts (OpenAI's API).", self.moderate,
                      body=Moderation, scope=SCOPE),
            Operation("GET", "/v1/guard/policy", "Get the caller's policy.", self.policy, Policy, scope=SCOPE),
            Operation("GET", "/v1/guard/kinds", "List all kinds.", self.kinds, dict[str, Category], scope=SCOPE),
        ]  # fmt: skip

    async def check(self, call: Call[Any, Asked]) -> Response:
        """Checks all texts, even if the first ones are already refused."""
        asked = call.body
        if (asked.text is None) == (not asked.texts):
            raise ApiError(400, "set either text or texts", param="text")
        policy = Compiled(asked.policy) if asked.policy is not None else self._policies.of(call.caller.tenant)
        texts = asked.texts or (asked.text or "",)
        found = await self._checker.check(call.caller.tenant, policy, asked.direction, texts)
        if asked.policy is None:
            self._decisions.tell(call.caller.tenant, asked.direction, found.action, found.kinds)
        return Response(found.content, media_type="application/json")

    async def moderate(self, call: Call[Any, Moderation]) -> Response:
        """Scores every category, independently of the tenant's policy."""
        given = call.body.input
        texts = [given] if isinstance(given, str) else [t if isinstance(t, str) else t.text for t in given]
        everything = self._policies.everything
        found = await self._checker.check(call.caller.tenant, everything, Direction.INPUT, texts, form=Form.MODERATION)
        answer = {"id": f"modr-{uuid.uuid4().hex}", "model": call.body.model, "results": msgspec.Raw(found.content)}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def policy(self, call: Call[Any, None]) -> Policy:
        """The policy is set with the User service. A tenant without one has the platform's default."""
        return self._policies.of(call.caller.tenant).policy

    async def kinds(self, _: Call[Any, None]) -> dict[str, Category]:
        """Each kind with its category."""
        return dict(sorted(KINDS.items()))
