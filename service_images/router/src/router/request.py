"""The state of a request, which all parts of the router know; what happens to it is in the classes built upon it.

A request is an `Exchange`, and that is built in layers, each of which knows the ones before it:
`Request` (state) <- `Answer` (to the client) <- `Admission` <- `Attempts` (at targets) <- `Exchange` (ends).

| state | how it is known | what ends it |
|---|---|---|
| body comes | `more_body` | `complete`; too slow, too large, a refusal by the head: answered |
| admitted | `route`, and `holder` | Prompt, Guardrails, the cache or an equal request has to be asked; else asked |
| waits beside | in `core.in_flight`, no legs | their answer: kept answer, refusal, or asked |
| asked | `_legs` | the first leg that answers wins; one that fails is followed by the next one |
| hedged | two `_legs`, `_hedged` | as asked; the one that does not win is dropped |
| streams | `streaming`, `winner` | its end; a target that breaks off is followed by another, or by an error event |
| checked | `stream_guard` | all of the stream has passed Guardrails, or it has said no |
| answered | `response_complete` | nothing: `finish` has run once, and nothing is held any more |

| event | body comes | waits beside | asked, hedged | streams, checked | answered |
|---|---|---|---|---|---|
| client goes (`set`) | ends: 499 | ends: 499 | legs dropped, ends: 499 | legs dropped, ends: 499 | - |
| time is up (`check`) | refused: 408 | refused: 504 | legs expire, refused: 504 | error event | - |
| first byte (`won`) | - | - | streams, or whole answer | goes on | leg dropped |
| break-off (`broke_off`, `leg_failed`) | - | - | next target, or refused | next target, or error event | - |
| hedge (`check`) | - | - | a second leg | - | - |
| verdict of Guardrails | - | asked, or refused: 400 | whole answer, or a filtered one | goes on, or ends | ignored |
| replica drains | as before: each request ends as it began, and its answer closes the connection |

Whatever the way: one answer, one settlement (`settling.settle`), and no lease of a target (`TargetState.in_flight`), no
reservation (`Account`), no connection and no counted bytes (`Bodies`) left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    from router import anthropic, usage
    from router.selection import RouteState
    from router.targets import TargetState
    from router.tenancy import Account


class Attempt(Protocol):
    """One target that is asked: a `Leg`, as far as the request knows it."""

    state: TargetState
    started: float

    def streamed(self) -> int:
        """Output tokens of the stream so far, counted."""
        ...

    def resume(self) -> None:
        """The client keeps up again."""

    def fail(self, reason: str, *, timed_out: bool = False) -> None:
        """Count it as failed, whatever may still come."""

    def expire(self) -> None:
        """The request's time is up; this target had its share of it."""

    def drop(self, *, counts: bool = False) -> None:
        """Nobody waits for this target any more; with `counts`, what it did is the request's all the same."""


class StreamGuard(Protocol):
    """Checks a stream on its way to the client: `Guarded`, as far as the request knows it."""

    ended: bool

    def feed(self, data: bytes) -> None:
        """Whole events of the stream."""

    def end(self, data: bytes, status: int) -> None:
        """There is no more."""

    def cancel(self) -> None:
        """Nobody reads any more."""


class Request:
    """What is known of a request for a model.

    What most requests never change has its default on the class: a request is made 15,000 times a second.
    """

    # What the server looks at in its own cycles
    response_complete = False
    disconnected = False
    more_body = True
    keep_alive = True
    _turn = False
    """Whether earlier requests on its connection are answered."""
    # Who asks, and for what
    path: bytes
    path_text: str
    upstream_path: bytes
    headers: dict[bytes, bytes]
    started: float
    request_id = b""
    trace_id = b""
    traceparent = b""
    span: Any = None
    chunked = True
    """Whether the client knows chunks (HTTP/1.1)."""
    body: Any = b""
    size = 0
    """Bytes of the body that have come."""
    reserved = 0
    """Bytes of it that are counted as memory."""
    ask: usage.Ask | None = None
    streams = False
    """Whether the client asked for a stream."""
    model = ""
    """As the client named it."""
    tenant = b""
    digest = b""
    """Of the caller's API key."""
    holder: Account | None = None
    """The caller's account, from the head on."""
    inside = False
    """Whether a service asks, whose questions hold more than a user sees: passages that only one reader may read."""
    dialect: anthropic.Stream | None = None
    """Where the client speaks Anthropic's API: what turns streams into it."""
    prompt_version = ""
    """The stored prompt that is in it, as "name@version"."""
    # What it may take
    route: RouteState | None = None
    fallbacks: tuple[RouteState, ...] = ()
    deadline = float("inf")
    account: Account | None = None
    """The account from whose limits something is set aside."""
    estimated, held = 0, 0.0
    """Tokens and US dollars set aside."""
    # Kept answers
    cache_key: bytes | None = None
    """Under what the answer will be kept."""
    ttl_s = 0.0
    leads = False
    """Whether others wait for the answer to this request."""
    meaning: tuple[bytes, Any] | None = None
    """What was asked, as a vector, and all that has to be equal."""
    recorded: list[bytes] | None = None
    """A stream as the client gets it, for who repeats the request; None: it is not kept."""
    _recorded_bytes = 0
    # Guardrails
    guard_required = False
    guarded_action = ""
    """What Guardrails has done about the request."""
    guard_unchecked = ""
    """Why a text of the request or the answer was not checked, although the route wants it; empty: all were."""
    stream_guard: StreamGuard | None = None
    # Targets
    attempts = 0
    _legs: list[Attempt]
    """Those under way."""
    _tried: list[TargetState]
    _rounds = 0
    """How often all of them were tried."""
    _hedged = False
    _retry: asyncio.TimerHandle | None = None
    _reason = "no target is available"
    _timed_out = False
    winner: Attempt | None = None
    """The target whose answer this is."""
    served_by: TargetState | None = None
    """The target that worked for this request last: its prices hold, whether or not it came to an end."""
    partial = ""
    """The text that a target sent before it broke off, for the next one to go on with."""
    hides_usage = False
    """Whether only the router asked for the usage at the end of a stream."""
    # The answer
    streaming = False
    """Whether the head of a stream has gone out: the status cannot be changed any more."""
    retry_after_s = 0.0
    # What it took
    reported: usage.Reported | None = None
    """Tokens, as far as the upstream has reported them."""
    unreported: bytes | None = None
    """A whole answer that does not report all of its tokens."""
    earlier = 0
    """Output tokens of targets that broke off before the one that goes on."""
    used: tuple[int, int] | None = None
    """(input, output) tokens, once the request has ended; None: no model has worked for it."""
    estimates = False
    """Whether some of them are counted here, since the upstream has not reported them."""

    @property
    def operation(self) -> str:
        """What the semantic conventions call it."""
        raise NotImplementedError

    @property
    def route_model(self) -> str:
        """The model that is asked: the one that the client named, or a fallback."""
        return self.route.route.model if self.route is not None else self.model

    def check(self, now: float) -> None:
        """Look at the time limits; called often."""
        raise NotImplementedError
