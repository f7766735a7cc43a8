"""State of a request, shared by all parts of the Router. The classes derived from it implement the transitions.

A request is an `Exchange`, which is built in layers. Each layer knows the ones before it:
`Request` (state) <- `Answer` (to the client) <- `Admission` <- `Attempts` (at targets) <- `Exchange` (ends).

| state | attributes | ends with |
|---|---|---|
| receiving | `more_body` | `complete`; too slow, too large, or refused by the head: answered |
| admitted | `route` and `holder` | waiting if Prompt, Guardrails, a cache or an equal request is needed; else calling |
| waiting | in `core.in_flight`, no legs | the result: a cached answer, a refusal, or calling |
| calling | `_legs` | the first leg that answers wins; after a failed leg, the next one starts |
| hedged | two `_legs`, `_hedged` | like calling; the leg that does not win is dropped |
| streaming | `streaming`, `winner` | its end; after an interruption, another target or an error event |
| checking | `stream_guard` | Guardrails has passed all of the stream, or has blocked it |
| answered | `response_complete` | final: `finish` has run once, and all resources are released |

| event | receiving | waiting | calling, hedged | streaming, checking | answered |
|---|---|---|---|---|---|
| client disconnects (`set`) | ends: 499 | ends: 499 | legs dropped, ends: 499 | legs dropped, ends: 499 | - |
| timeout (`check`) | refused: 408 | refused: 504 | legs expire, refused: 504 | error event | - |
| first byte (`won`) | - | - | streaming, or whole answer | continues | leg dropped |
| interruption (`broke_off`, `leg_failed`) | - | - | next target, or refused | next target, or error event | - |
| hedge (`check`) | - | - | a second leg | - | - |
| verdict of Guardrails | - | calling, or refused: 400 | whole or filtered answer | continues, or ends | ignored |
| replica drains | no change of state; the answer closes the connection |

In all cases, there is one answer and one settlement (`settling.settle`), and no lease of a target
(`TargetState.in_flight`), reservation (`Account`), connection or counted bytes (`Bodies`) remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio

    from router import anthropic, usage
    from router.model_call import ModelCall
    from router.selection import RouteState
    from router.targets import TargetState
    from router.tenancy import Account
    from router.tried import Tried


class Attempt(Protocol):
    """One call of a target: the interface of a `Leg` for the request."""

    state: TargetState
    model: str
    """Model of the attempt's route."""
    started: float
    hedge: bool
    """Whether it was begun while another attempt was running."""
    noted: bool
    """Whether its end is in the request's trail."""
    call: ModelCall | None
    """Its span; None if the request is not recorded."""

    def streamed(self) -> int:
        """Counted output tokens of the stream so far."""
        ...

    def resume(self) -> None:
        """The client is ready for more data."""

    def fail(self, reason: str, *, timed_out: bool = False) -> None:
        """Count the attempt as failed, and ignore any further data."""

    def expire(self) -> None:
        """The request's time limit is reached, after this target had its share of the time."""

    def drop(self, *, counts: bool = False) -> None:
        """Cancel the attempt. `counts`: its usage is charged to the request nevertheless."""


class StreamGuard(Protocol):
    """Checks a stream on its way to the client: the interface of `Guarded` for the request."""

    ended: bool

    def feed(self, data: bytes) -> None:
        """Receive complete events of the stream."""

    def end(self, data: bytes, status: int) -> None:
        """The stream has ended."""

    def cancel(self) -> None:
        """The client has gone."""


class Request:
    """State of a request for a model.

    Defaults are on the class for fields that most requests never change: 15,000 requests are created per second.
    """

    # Attributes that the server reads in its own cycles
    response_complete = False
    disconnected = False
    more_body = True
    keep_alive = True
    _turn = False
    """Whether earlier requests on the connection are answered."""
    # Caller and request
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
    """Whether the client supports chunked encoding (HTTP/1.1)."""
    body: Any = b""
    size = 0
    """Received bytes of the body."""
    reserved = 0
    """Bytes of the body that are counted in `Bodies`."""
    ask: usage.Ask | None = None
    streams = False
    """Whether the client has requested a stream."""
    model = ""
    """Model, as the client named it."""
    tenant = b""
    digest = b""
    """Digest of the caller's API key."""
    holder: Account | None = None
    """The caller's account, known once the head is received."""
    inside = False
    """Whether a service calls. Its requests contain data that the user may not see: passages of certain readers."""
    dialect: anthropic.Stream | None = None
    """Translator of streams for clients of Anthropic's API."""
    prompt_version = ""
    """The request's stored prompt, as "name@version"."""
    # Limits and caches
    route: RouteState | None = None
    fallbacks: tuple[RouteState, ...] = ()
    deadline = float("inf")
    account: Account | None = None
    """The account in which tokens and budget are reserved."""
    estimated, held = 0, 0.0
    """Reserved tokens and US dollars."""
    # Kept answers
    cache_key: bytes | None = None
    """Cache key of the answer."""
    ttl_s = 0.0
    leads = False
    """Whether other requests wait for this one's answer."""
    meaning: tuple[bytes, Any] | None = None
    """Vector of the question, and the context that must be equal."""
    recorded: list[bytes] | None = None
    """Stream as sent to the client, for a repeated request; None if it is not kept."""
    _recorded_bytes = 0
    # Guardrails
    guard_required = False
    guarded_action = ""
    """Action of Guardrails on the request."""
    guard_unchecked = ""
    """Why a text was not checked although the route enables checks; empty if all were checked."""
    stream_guard: StreamGuard | None = None
    verdicts: dict[str, str] | None = None
    """The strictest verdict by direction, "input" or "output"; None if Guardrails was not asked."""
    # Targets
    attempts = 0
    _legs: list[Attempt]
    """Running attempts."""
    _tried: list[TargetState]
    _rounds = 0
    """Completed rounds over all targets."""
    _hedged = False
    _retry: asyncio.TimerHandle | None = None
    _reason = "no target is available"
    _timed_out = False
    winner: Attempt | None = None
    """The target whose answer is sent."""
    served_by: TargetState | None = None
    """The target that worked for the request last. Its prices apply, even if it has not finished."""
    partial = ""
    """Text that a target has sent before an interruption, for the next target to continue."""
    hides_usage = False
    """Whether only the Router has requested the usage at the end of a stream."""
    # What the usage event says about the way to the answer
    trail: list[Tried] | None = None
    """Attempts that have ended, unless the first one has answered."""
    choice: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Targets and their scores when the last one was chosen."""
    cached_as = ""
    """Why a kept answer was used: "equal", "repeated", "similar" or "shared"; empty if none was."""
    first_token_s: float | None = None
    """Seconds to the first piece of a stream."""
    # The answer
    streaming = False
    """Whether the head of a stream was sent, after which the status cannot be changed."""
    retry_after_s = 0.0
    # Usage
    reported: usage.Reported | None = None
    """Tokens that the upstream has reported."""
    unreported: bytes | None = None
    """A whole answer that does not report all of its tokens."""
    earlier = 0
    """Output tokens of targets before the last one, which were interrupted."""
    used: tuple[int, int] | None = None
    """(input, output) tokens after the end of the request; None if no model has worked for it."""
    estimates = False
    """Whether the Router has counted some of the tokens, since the upstream has not reported them."""

    @property
    def operation(self) -> str:
        """Operation name of OpenTelemetry's semantic conventions."""
        raise NotImplementedError

    @property
    def route_model(self) -> str:
        """The called model: the one that the client has named, or a fallback."""
        return self.route.route.model if self.route is not None else self.model

    def check(self, now: float) -> None:
        """Check the time limits. Called frequently."""
        raise NotImplementedError
