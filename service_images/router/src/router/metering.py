"""Publishes the usage of each answer to Kafka, for Billing and Audit, and changes of routes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from kit import events
from kit.sender import Sender
from kit.spill import Event, Spill
from msgspec import UNSET, Raw, UnsetType

from router.tried import Tried

if TYPE_CHECKING:
    from kit.directory import Grant

    from router.request import Request

TOPIC = "usage.recorded.v1"
TYPE = events.TYPE_PREFIX + TOPIC
_OPERATIONS = {
    "/v1/embeddings": "embedding",
    "/v1/completions": "completion",
    "/v1/responses": "response",
    "/v1/messages": "message",
}
_encode = msgspec.json.Encoder().encode


class Used(msgspec.Struct):
    """Data of an event. Source: kit/events/usage.recorded.v1.json."""

    tenant: str
    user: str
    model: str
    target: str
    operation: str
    input_tokens: int
    output_tokens: int
    cached: bool
    status: int
    duration_ms: float
    request: str
    cost_usd: float
    estimated: bool
    """Whether the Router has counted some of the tokens, since the upstream has not reported them."""
    unchecked: str
    """Why Guardrails has not checked a text of the request; empty if all were checked, or no check is enabled."""
    key: str | UnsetType = UNSET
    """ID of the API key; not set for keys of the route table, which have none."""
    client: str | UnsetType = UNSET
    """Program that acts for the user with the key; not set where nobody does."""
    scopes: tuple[str, ...] | UnsetType = UNSET
    route: str | UnsetType = UNSET
    """Model of the last route, if it was a fallback."""
    choice: Raw | UnsetType = UNSET
    attempts: list[Tried] | UnsetType = UNSET
    cache: str | UnsetType = UNSET
    guard: dict[str, str] | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    first_token_ms: float | UnsetType = UNSET


class UsageEvent(msgspec.Struct):
    """A CloudEvent 1.0."""

    id: str
    time: str
    subject: str
    traceparent: str
    data: Used
    specversion: str = "1.0"
    source: str = "/services/router"
    type: str = TYPE
    datacontenttype: str = "application/json"


class Metering(Sender):
    """Collects and sends events."""

    flush_s = 15.0

    def __init__(self, access: dict[str, Any], spill: Spill, *topics: str) -> None:
        super().__init__(access, spill, TOPIC, *topics)
        self._second, self._stamp = 0, ""

    def record(
        self,
        exchange: Request,
        id: str,
        status: int,
        seconds: float,
        target: str,
        cost: float,
        grant: Grant | None,
        tried: list[Tried] | None,
    ) -> None:
        """Record the usage of an answer, including one from the cache.

        `grant`: rights of a key that comes from User; `tried`: attempts, if there is more to tell than the target.
        """
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        tenant = exchange.tenant.decode()
        used = exchange.used or (0, 0)
        ask = exchange.ask
        data = Used(
            tenant=tenant,
            user=(ask.user or "") if ask is not None else "",
            model=exchange.model,
            target=target,
            operation=_OPERATIONS.get(exchange.path_text, "chat"),
            input_tokens=used[0],
            output_tokens=used[1],
            cached=not target,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            request=exchange.request_id.decode(),
            cost_usd=cost,
            estimated=exchange.estimates,
            unchecked=exchange.guard_unchecked,
        )
        if grant is not None:
            data.key, data.scopes = grant.id, grant.scopes
            if grant.client:
                data.client = grant.client
        if target:
            data.choice = exchange.choice
        if tried is not None:
            data.attempts = tried
        _tell_rest(exchange, data)
        event = UsageEvent(
            # Clients may send an ID twice; this one is the Router's own.
            id=id,
            time=f"{self._stamp}.{int((now - second) * 1e6):06d}Z",
            subject=events.request(data.request),
            traceparent=exchange.traceparent.decode(),
            data=data,
        )
        self._waiting.append(Event(TOPIC, exchange.tenant, _encode(event), exchange.traceparent))

    def tell(self, topic: str, key: str, event: dict[str, Any]) -> None:
        """Publish another event. These are rare, and wait in the same queue."""
        trace = event.get("traceparent", "")
        self._waiting.append(Event(topic, key.encode(), _encode(event), trace.encode()))


def _tell_rest(exchange: Request, data: Used) -> None:
    """Set what few requests have. Fields that are not set cost nothing."""
    route = exchange.route
    if route is not None and route.route.model != exchange.model:
        data.route = route.route.model
    if exchange.cached_as:
        data.cache = exchange.cached_as
    if exchange.verdicts:
        data.guard = exchange.verdicts
    if exchange.prompt_version:
        data.prompt = exchange.prompt_version
    if exchange.first_token_s is not None:
        data.first_token_ms = round(exchange.first_token_s * 1000, 3)
