"""State of a target: its connections, latency, and circuit breaker."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from router.credentials import INSIDE, Credential
from router.routes import Api, Target
from router.upstream import Pool

SMOOTHING = 0.1
"""Weight of the newest latency in the moving average."""
FAILURES_TO_OPEN = 5
"""Number of consecutive failures that open the breaker."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Seconds that the breaker stays open, doubled after each failed probe."""


class Breaker:
    """Circuit breaker: blocks requests to a failing target, and admits one probe after a pause."""

    __slots__ = ("_failures", "_pause_s", "_probing", "_retry_at", "_until", "open")

    def __init__(self) -> None:
        self.open = False
        """Whether the target counts as broken."""
        self._failures = 0
        self._until = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._probing = False
        self._retry_at = 0.0
        """Time until which the target has refused requests with Retry-After; 0 if it has not."""

    def allows(self, now: float) -> bool:
        """Whether a request is admitted now."""
        return not self.open or (now >= self._until and not self._probing)

    def begin(self) -> None:
        """Record an admitted request. Behind an open breaker, it is the probe."""
        if self.open:
            self._probing, self._retry_at = True, 0.0

    def wait(self, seconds: float, now: float) -> None:
        """The target has sent Retry-After: admit no request before that time, then one probe."""
        self._failures = max(self._failures, FAILURES_TO_OPEN)
        self.open, self._probing = True, False
        self._retry_at = max(self._retry_at, now + seconds)
        self._until = max(self._until, self._retry_at)

    def retry_after_s(self, now: float) -> float:
        """Seconds left of the target's Retry-After; 0 if there is none, or it has passed."""
        return max(0.0, self._retry_at - now)

    def success(self) -> None:
        """Record a success. An answer to an earlier request does not shorten a Retry-After."""
        if self._failures and not self._retry_at:
            self._failures = 0
            self._pause_s = FIRST_PAUSE_S
            self.open = self._probing = False

    def failure(self, now: float) -> None:
        """Record a failure."""
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            if self._probing:
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
            self.open, self._probing = True, False
            self._until = max(now + self._pause_s, self._retry_at)

    def dropped(self) -> None:
        """Record a cancelled request, which says nothing about the target."""
        self._probing = False


class TargetState:
    """State of one target of one route."""

    __slots__ = (
        "alpha",
        "beta",
        "breaker",
        "credential",
        "errors",
        "host_header",
        "in_flight",
        "label",
        "label_bytes",
        "latency_s",
        "messages",
        "normal",
        "outside",
        "pool",
        "prefix",
        "requests",
        "target",
    )

    def __init__(self, target: Target) -> None:
        url = target.upstream
        assert url.host is not None and url.port is not None  # HttpUrl has both
        tls = ssl.create_default_context() if url.scheme == "https" else None
        self.target = target
        self.label = target.label
        self.label_bytes = self.label.encode()
        self.pool = Pool(url.host, url.port, tls)
        usual = {"http": 80, "https": 443}.get(url.scheme) == url.port
        self.host_header = (url.host if usual else f"{url.host}:{url.port}").encode()
        self.outside = bool(target.credential)
        """Whether the model is external, and so needs the platform's credential for requests."""
        inside = Credential(INSIDE, url.host, optional=True)
        self.credential = Credential(url.host, target.credential) if self.outside else inside
        self.messages = target.api is Api.ANTHROPIC
        self.prefix = (url.path or "").rstrip("/").encode()
        self.breaker = Breaker()
        self.in_flight = 0
        self.latency_s = 0.0
        """Moving average of the time from request to answer; 0 before the first answer."""
        self.requests = 0
        self.errors = 0
        # The bandit's beta distribution of the reward, initially without information.
        self.alpha = 1.0
        self.beta = 1.0
        self.normal: tuple[float, float] | None = None
        """Mean and deviation of the same distribution, once a normal distribution approximates it."""

    def begin(self) -> None:
        """Record the start of a request."""
        self.in_flight += 1
        self.breaker.begin()

    def end(self, ok: bool | None, seconds: float, now: float) -> None:
        """Record the end of a request; `ok` is None if it was cancelled."""
        self.in_flight -= 1
        if ok is None:
            self.breaker.dropped()
            return
        self.requests += 1
        if ok:
            self.breaker.success()
            before = self.latency_s
            self.latency_s = before + SMOOTHING * (seconds - before) if before else seconds
        else:
            self.errors += 1
            self.breaker.failure(now)

    async def ask(self, timeout_s: float) -> int:
        """Status of a request for the target's models. Raises ConnectionError, TimeoutError."""
        asking = _Asking(asyncio.get_running_loop().create_future())
        head = b"GET %s/v1/models HTTP/1.1\r\nhost: %s\r\n" % (self.prefix, self.host_header)
        ticket = self.pool.send(b"%s%s\r\n" % (head, self.authorization()), asking)
        try:
            return await asyncio.wait_for(asking.answer, timeout_s)
        except TimeoutError:
            ticket.cancel()
            raise

    def authorization(self, header: bytes = b"authorization: Bearer") -> bytes:
        """Header line with the credential; empty if there is none."""
        key = self.credential.value
        return b"%s %s\r\n" % (header, key) if key else b""

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Cost in US dollars."""
        target = self.target
        return (input_tokens * target.input_price + output_tokens * target.output_price) / 1e6

    def describe(self, now: float) -> dict[str, Any]:
        """State for operators."""
        return {
            "in_flight": self.in_flight,
            "requests": self.requests,
            "errors": self.errors,
            "latency_s": round(self.latency_s, 6),
            "breaker": "closed" if not self.breaker.open else "half-open" if self.breaker.allows(now) else "open",
            "reward": round(self.alpha / (self.alpha + self.beta), 4),
        }


class _Asking:
    """Receives a status."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self.answer, self._status = answer, 0

    def on_head(self, status: int, kind: bytes, after: bytes) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        pass

    def on_end(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._status)

    def on_failure(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionError(reason))
