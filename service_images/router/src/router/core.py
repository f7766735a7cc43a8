"""State of the Router: current routes and tenants, cached answers, running requests."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from kit import logs

from router.bodies import Bodies
from router.cache import ResponseCache
from router.heads import Heads
from router.measure import Measures
from router.overrides import Verdict
from router.routes import RouteTable
from router.selection import RouteState
from router.tenancy import Accounts

if TYPE_CHECKING:
    from router.confirming import Confirming
    from router.guard import Guard
    from router.metering import Metering
    from router.prompts import Prompts
    from router.request import Request
    from router.semantic import SemanticCache

log = logs.get("router.core")
RECENT = 4096
"""Maximum number of bandits' answers that can still receive feedback."""
WATCH_S = 5.0
"""Seconds between two checks for idle connections."""
SWEEP_S = 0.01
"""Seconds between two checks of the time limits of running requests; one timer for all."""


class Idle(Protocol):
    """A connection that may be closed."""

    transport: asyncio.Transport

    @property
    def timeout_keep_alive(self) -> float:
        """Seconds after which an idle connection is closed."""
        ...


class Core:
    """State of one Router."""

    def __init__(self, table: RouteTable, measures: Measures | None = None) -> None:
        self.now = time.monotonic
        self.measures = measures or Measures()
        self.metering: Metering | None = None
        """Sends usage events; None disables metering."""
        self.guard: Guard | None = None
        """Client of Guardrails; None disables checks."""
        self.heads: Heads[tuple[bytes, dict[bytes, bytes]]] = Heads()
        """(path, headers) of requests."""
        self.bodies = Bodies()
        self.cache = ResponseCache()
        self.semantic: SemanticCache | None = None
        """Semantic cache; None without the Embeddings service."""
        self.confirming: Confirming | None = None
        """Confirms keys with User while NATS is unavailable; None if keys do not come through NATS."""
        self.prompts: Prompts | None = None
        """Client of Prompt, for stored prompts; None without the Prompt service."""
        self.in_flight: set[Request] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: OrderedDict[tuple[bytes, bytes, bytes], tuple[str, str]] = OrderedDict()
        """(model, target) that answered, by tenant, key and request ID."""
        self.idle: dict[Idle, float | None] = {}
        """Connections without a request, each with the time at which that was first seen."""
        self._watching = False
        self._sweeping = False
        self._prefix, self._count = secrets.token_hex(8).encode(), itertools.count()
        self.verdicts: dict[str, Verdict] = {}
        """Decisions about canaries, by model."""
        self.routes: dict[str, RouteState] = {}
        self._take(table, Accounts(table, self.now()))

    def _take(self, table: RouteTable, accounts: Accounts) -> None:
        known = self.routes
        self.table, self.accounts = table, accounts
        self.routes = {r.model: RouteState(r, known.get(r.model)) for r in table.routes}
        for state in self.routes.values():
            state.fallbacks = tuple(self.routes[name] for name in state.route.fallbacks)
            if (verdict := self.verdicts.get(state.route.model)) is not None:
                state.judge(verdict)
        kept = {target for state in self.routes.values() for target in state.targets}
        for target in {t for state in known.values() for t in state.targets} - kept:
            target.pool.close()

    def reload(self, table: RouteTable) -> None:
        """Use a new table. Running requests keep their routes, and the state of targets and tenants is kept."""
        if table == self.table:
            return
        self._take(table, Accounts(table, self.now(), self.accounts))
        self.forget()
        log.info("routes", revision=table.revision, models=sorted(self.routes), tenants=len(table.tenants))

    def decide(self, model: str, verdict: Verdict | None) -> None:
        """Apply a decision about a model's canary; None removes the decision, without other effects."""
        if verdict is None:
            self.verdicts.pop(model, None)
        else:
            self.verdicts[model] = verdict
            if model in self.routes:
                self.routes[model].judge(verdict)

    def forget(self) -> None:
        """Drop all cached answers."""
        self.cache.clear()
        if self.semantic is not None:
            self.semantic.clear()

    def answered(self, tenant: bytes, digest: bytes, request_id: bytes, route: RouteState, label: str) -> None:
        """Remember the target of a bandit's answer, for feedback from the same caller."""
        self._recent[tenant, self.accounts.who(digest), request_id] = (route.route.model, label)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def feedback(self, tenant: bytes, digest: bytes, request_id: str, score: float) -> bool:
        """Pass feedback to a bandit. Returns False if the answer is unknown, or belongs to another caller."""
        model, label = self._recent.pop((tenant, self.accounts.who(digest), request_id.encode()), ("", ""))
        return model in self.routes and self.routes[model].feedback(label, score)

    def describe(self) -> dict[str, Any]:
        """State of routes, targets and tenants."""
        now = self.now()
        return {
            "revision": self.table.revision,
            "in_flight": len(self.in_flight),
            "cache": {"hits": self.cache.hits, "misses": self.cache.misses},
            "semantic": {"hits": self.semantic.hits, "misses": self.semantic.misses} if self.semantic else None,
            "routes": {model: route.describe(now) for model, route in self.routes.items()},
            "tenants": {account.id: account.describe() for account in self.accounts.all()},
        }

    def request_id(self) -> bytes:
        """A new ID, unique among replicas."""
        return b"%s%012x" % (self._prefix, next(self._count))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task, and keep a reference until it has ended."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def begin(self, exchange: Request) -> None:
        """Register a running request."""
        self.in_flight.add(exchange)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def rest(self, front: Idle) -> None:
        """Register an idle connection, which is closed if it stays idle; one timer for all."""
        self.idle[front] = None
        if not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_later(WATCH_S, self._close_idle)

    def _close_idle(self) -> None:
        now = self.now()
        for front, since in list(self.idle.items()):
            if since is None:
                self.idle[front] = now
            elif now - since >= front.timeout_keep_alive:
                front.transport.close()
        self._watching = bool(self.idle)
        if self._watching:
            asyncio.get_running_loop().call_later(WATCH_S, self._close_idle)

    def _sweep(self) -> None:
        now = self.now()
        for exchange in list(self.in_flight):
            exchange.check(now)
        self._sweeping = bool(self.in_flight)
        if self._sweeping:
            asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
