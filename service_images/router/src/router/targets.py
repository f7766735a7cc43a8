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
"""So many failures in a row open the breaker."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""The breaker stays open for so long; each time that the probe fails, twice as long."""


class Breaker:
    """Keeps requests away from a target that fails; lets one probe through after a pause."""

    __slots__ = ("_failures", "_pause_s", "_probing", "_told", "_until", "open")

    def __init__(self) -> None:
        self.open = False
        """Whether the target is thought to be broken."""
        self._failures = 0
        self._until = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._probing = False
        self._told = 0.0
        """Until when the target itself has asked not to be asked; 0: it has not."""

    def allows(self, now: float) -> bool:
        """Whether a request may go through now."""
        return not self.open or (now >= self._until and not self._probing)

    def begin(self) -> None:
        """A request goes through; behind an open breaker it is the probe."""
        if self.open:
            self._probing, self._told = True, 0.0

    def wait(self, seconds: float, now: float) -> None:
        """The target has named a time (Retry-After): no request before it, then one probe."""
        self._failures = max(self._failures, FAILURES_TO_OPEN)
        self.open, self._probing = True, False
        self._told = max(self._told, now + seconds)
        self._until = max(self._until, self._told)

    def told_wait_s(self, now: float) -> float:
        """Seconds until the time that the target has named; 0: it has named none, or that has passed."""
        return max(0.0, self._told - now)

    def success(self) -> None:
        """It went well. An answer to an earlier request does not shorten a time that the target has named."""
        if self._failures and not self._told:
            self._failures = 0
            self._pause_s = FIRST_PAUSE_S
            self.open = self._probing = False

    def failure(self, now: float) -> None:
        """It did not."""
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            if self._probing:
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
            self.open, self._probing = True, False
            self._until = max(now + self._pause_s, self._told)

    def dropped(self) -> None:
        """Nobody waited for the end of it; it says nothing of the target."""
        self._probing = False


class TargetState:
    """One target of one route."""

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
        """Whether it is a model outside the platform, which takes requests only with the platform's credential."""
        inside = Credential(INSIDE, url.host, optional=True)
        self.credential = Credential(url.host, target.credential) if self.outside else inside
        self.messages = target.api is Api.ANTHROPIC
        self.prefix = (url.path or "").rstrip("/").encode()
        self.breaker = Breaker()
        self.in_flight = 0
        self.latency_s = 0.0
        """Moving average from request to answer; 0 before the first."""
        self.requests = 0
        self.errors = 0
        # A bandit's belief: a beta distribution of the reward, at first one that knows nothing.
        self.alpha = 1.0
        self.beta = 1.0
        self.normal: tuple[float, float] | None = None
        """The same as mean and deviation, once so much is behind it that it is as good as normal."""

    def begin(self) -> None:
        """A request goes there."""
        self.in_flight += 1
        self.breaker.begin()

    def end(self, ok: bool | None, seconds: float, now: float) -> None:
        """It ended; `ok` is None where nobody waited for the end."""
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
        """The status with which it says what models it has. Raises ConnectionError, TimeoutError."""
        asking = _Asking(asyncio.get_running_loop().create_future())
        head = b"GET %s/v1/models HTTP/1.1\r\nhost: %s\r\n" % (self.prefix, self.host_header)
        ticket = self.pool.send(b"%s%s\r\n" % (head, self.authorization()), asking)
        try:
            return await asyncio.wait_for(asking.answer, timeout_s)
        except TimeoutError:
            ticket.cancel()
            raise

    def authorization(self, header: bytes = b"authorization: Bearer") -> bytes:
        """The line of a request's head that shows the credential; empty where there is none."""
        key = self.credential.value
        return b"%s %s\r\n" % (header, key) if key else b""

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars."""
        target = self.target
        return (input_tokens * target.input_price + output_tokens * target.output_price) / 1e6

    def describe(self, now: float) -> dict[str, Any]:
        """For operators."""
        return {
            "in_flight": self.in_flight,
            "requests": self.requests,
            "errors": self.errors,
            "latency_s": round(self.latency_s, 6),
            "breaker": "closed" if not self.breaker.open else "half-open" if self.breaker.allows(now) else "open",
            "reward": round(self.alpha / (self.alpha + self.beta), 4),
        }


class _Asking:
    """Waits for a status."""

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
