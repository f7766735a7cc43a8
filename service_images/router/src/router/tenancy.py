"""Who calls, and how much more they may: keys, request and token rates, budgets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from router.routes import RouteTable, Tenant

ANONYMOUS = "default"
"""The tenant of everybody where the table has none."""


class Bucket:
    """A token bucket: `per_minute` flow in evenly, and as many can be saved up."""

    __slots__ = ("_at", "_capacity", "_level", "_rate")

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60
        self._capacity = self._level = float(per_minute)
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds until there is enough.

        More than fits is allowed once the bucket is full: it goes below zero and pays back later.
        """
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        missing = min(amount, self._capacity) - self._level
        if missing > 0:
            return missing / self._rate
        self._level -= amount
        return 0.0

    def settle(self, amount: float) -> None:
        """Correct an estimate: give back, or take more (negative)."""
        self._level = min(self._capacity, self._level + amount)

    def limits(self) -> tuple[int, int]:
        """(capacity, what is left), for headers."""
        return int(self._capacity), max(0, int(self._level))


@dataclass(slots=True)
class Refusal:
    """Why a request is not admitted."""

    code: str
    message: str
    retry_after_s: float = 0.0


class Account:
    """A tenant's state in this process."""

    __slots__ = (
        "budget",
        "held",
        "held_elsewhere",
        "id",
        "label",
        "models",
        "requests",
        "spent",
        "spent_elsewhere",
        "tokens",
        "took_requests",
        "took_tokens",
    )

    def __init__(self, tenant: Tenant, now: float) -> None:
        self.id = tenant.id
        self.label = tenant.id.encode()
        self.models = frozenset(tenant.models)
        self.requests = Bucket(tenant.requests_per_minute, now) if tenant.requests_per_minute else None
        self.tokens = Bucket(tenant.tokens_per_minute, now) if tenant.tokens_per_minute else None
        self.budget = tenant.budget_usd
        self.spent = 0.0
        """US dollars."""
        self.held = 0.0
        """US dollars set aside for requests under way, so that together they cannot overspend."""
        self.spent_elsewhere = self.held_elsewhere = 0.0
        """The same, in other replicas, as far as they have told."""
        self.took_requests = self.took_tokens = 0
        """Since the start, to tell other replicas."""

    def admit(self, tokens: int, cost: float, now: float) -> Refusal | None:
        """Take about `tokens` and `cost` from the limits, or say which is in the way. Requests are counted before."""
        if self.budget is not None and self._committed() + cost > self.budget:
            return Refusal("insufficient_quota", f"The budget of {self.budget:g} USD is used up.")
        if self.tokens is not None and (wait := self.tokens.wait_s(tokens, now)):
            return Refusal("rate_limit_exceeded", "Too many tokens a minute.", wait)
        self.held += cost
        self.took_tokens += tokens
        return None

    def _committed(self) -> float:
        return self.spent + self.held + self.spent_elsewhere + self.held_elsewhere

    def ask(self, now: float) -> float:
        """Take one request from the rate: 0, or the seconds until there is one."""
        wait = self.requests.wait_s(1, now) if self.requests is not None else 0.0
        self.took_requests += not wait
        return wait

    def describe(self) -> dict[str, Any]:
        """For operators."""
        return {
            "spent_usd": round(self.spent, 9),
            "spent_elsewhere_usd": round(self.spent_elsewhere, 9),
            "budget_usd": self.budget,
            "requests_left": self.requests.limits()[1] if self.requests else None,
            "tokens_left": self.tokens.limits()[1] if self.tokens else None,
        }

    def settle(self, estimated: int, used: int, held: float, cost: float) -> None:
        """What a request took in the end."""
        self.held -= held
        self.spent += cost
        self.took_tokens += used - estimated
        if self.tokens is not None:
            self.tokens.settle(estimated - used)


class Accounts:
    """All tenants of a table. State outlives a reload as long as a tenant's limits stay as they are."""

    def __init__(self, table: RouteTable, now: float, before: Accounts | None = None) -> None:
        self._kept: dict[str, tuple[Tenant, Account]] = {}
        self._by_key: dict[bytes, Account] = {}
        self._by_client: dict[bytes, Account] = {}
        for tenant in table.tenants or (Tenant(id=ANONYMOUS),):
            account = self._account(tenant, now, before)
            self._kept[tenant.id] = (tenant, account)
            self._by_key |= {bytes.fromhex(key): account for key in tenant.keys}
            self._by_client |= {name.encode(): account for name in tenant.clients}
        self._anybody = None if table.tenants else self._kept[ANONYMOUS][1]

    @staticmethod
    def _account(tenant: Tenant, now: float, before: Accounts | None) -> Account:
        fresh = Account(tenant, now)
        known = before._kept.get(tenant.id) if before else None
        if known is None:
            return fresh
        earlier, account = known  # the same object: requests under way settle with it
        account.models, account.budget = fresh.models, fresh.budget
        if earlier.requests_per_minute != tenant.requests_per_minute:
            account.requests = fresh.requests
        if earlier.tokens_per_minute != tenant.tokens_per_minute:
            account.tokens = fresh.tokens
        return account

    def find(self, key: bytes, client: bytes) -> Account | None:
        """The account of an API key, or of a client that the gateway has authenticated."""
        if self._anybody is not None:
            return self._anybody
        if key:
            return self._by_key.get(hashlib.sha256(key).digest())
        return self._by_client.get(client)

    def all(self) -> list[Account]:
        """Every account."""
        return [account for _, account in self._kept.values()]
