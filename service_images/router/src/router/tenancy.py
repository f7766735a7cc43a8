"""Tenants in the Router: keys, request and token rates, budgets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kit.directory import TENANT_SCOPES, Grant, Scope

from router.routes import RouteTable, Tenant

ANONYMOUS = "default"
"""Tenant of all callers if the table has no tenants."""


_LONGEST_KEPT = 256
"""Maximum bytes of a key whose digest is cached; `_KEPT` keys take at most a quarter of a megabyte."""
_KEPT = 1024


def digest_of(key: bytes) -> bytes:
    """Digest of an API key; empty for an empty key."""
    return _digest(key) if len(key) <= _LONGEST_KEPT else hashlib.sha256(key).digest()


@lru_cache(_KEPT)
def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest() if key else b""


class Bucket:
    """A token bucket: filled evenly with `per_minute` tokens per minute, which is also its capacity."""

    __slots__ = ("_at", "_capacity", "_level", "_rate", "shown")

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60
        self._capacity = self._level = float(per_minute)
        self._at = now
        self.shown = b""
        """Constant beginning of its headers."""

    def wait_s(self, amount: float, now: float) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds until there is enough.

        A full bucket admits more than its capacity; it then becomes negative and refills later.
        """
        # Comparisons, since `min` takes twice as long, and each request calls this twice.
        capacity = self._capacity
        level = self._level + (now - self._at) * self._rate
        if level > capacity:
            level = capacity
        self._at = now
        missing = (amount if amount < capacity else capacity) - level
        if missing > 0:
            self._level = level
            return missing / self._rate
        self._level = level - amount
        return 0.0

    def settle(self, amount: float) -> None:
        """Correct an estimate: return tokens, or take more (negative)."""
        level = self._level + amount
        self._level = level if level < self._capacity else self._capacity

    def limits(self) -> tuple[int, int]:
        """(capacity, remaining tokens), for operators."""
        return int(self._capacity), max(0, int(self._level))

    def state(self, now: float) -> tuple[int, int, float]:
        """(capacity, remaining tokens, seconds until it is full), for headers."""
        capacity = self._capacity
        level = self._level + (now - self._at) * self._rate
        if level > capacity:
            level = capacity
        return int(capacity), int(level) if level > 0 else 0, (capacity - level) / self._rate


@dataclass(slots=True)
class Refusal:
    """Reason why a request is not admitted."""

    code: str
    message: str
    retry_after_s: float = 0.0


class Account:
    """A tenant's state in this process."""

    __slots__ = (
        "billed",
        "budget",
        "held",
        "held_elsewhere",
        "id",
        "label",
        "last_bill",
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
        """US dollars reserved for running requests, so that they cannot overspend together."""
        self.spent_elsewhere = self.held_elsewhere = 0.0
        """US dollars reserved in other replicas, as of their last messages."""
        self.took_requests = self.took_tokens = 0
        """Totals since the start, for other replicas."""
        self.billed = 0.0
        """US dollars that Billing knows and this replica does not; negative in the opposite case."""
        self.last_bill: tuple[float, str] = (0.0, "")
        """Billing's last value: US dollars and month."""

    def admit(self, tokens: int, cost: float, now: float) -> Refusal | None:
        """Reserve tokens and cost, or return the limit that prevents it. Requests are counted earlier."""
        if self.budget is not None and self._committed() + cost > self.budget:
            return Refusal("insufficient_quota", f"The budget of {self.budget:g} USD is used up.")
        if self.tokens is not None and (wait := self.tokens.wait_s(tokens, now)):
            return Refusal("rate_limit_exceeded", "Too many tokens per minute.", wait)
        self.held += cost
        self.took_tokens += tokens
        return None

    def _committed(self) -> float:
        return self.billed + self.spent + self.held + self.spent_elsewhere + self.held_elsewhere

    def bill(self, budget: float, spent: float, period: str) -> None:
        """Apply Billing's values. Billing is slower than the Routers' own counts, so the larger amount applies.

        Within a month, a smaller amount applies only if Billing lowers its own, for example after a credit.
        """
        before, month = self.last_bill
        missing = spent - self.spent - self.spent_elsewhere
        again = period != month or spent < before
        self.billed = missing if again else max(self.billed, missing)
        self.budget, self.last_bill = budget, (spent, period)

    def ask(self, now: float) -> float:
        """Take one request from the rate. Returns 0, or the seconds until one is available."""
        wait = self.requests.wait_s(1, now) if self.requests is not None else 0.0
        self.took_requests += not wait
        return wait

    def describe(self) -> dict[str, Any]:
        """State for operators."""
        return {
            "spent_usd": round(self.spent, 9),
            "spent_elsewhere_usd": round(self.spent_elsewhere, 9),
            "budget_usd": self.budget,
            "requests_left": self.requests.limits()[1] if self.requests else None,
            "tokens_left": self.tokens.limits()[1] if self.tokens else None,
        }

    def settle(self, estimated: int, used: int, held: float, cost: float) -> None:
        """Settle a reservation with the actual usage."""
        self.held -= held
        self.spent += cost
        self.took_tokens += used - estimated
        if self.tokens is not None:
            self.tokens.settle(estimated - used)


class Accounts:
    """All tenants: those of the table, and those of the User service, which can change at any time.

    A tenant's state outlives a reload if its limits do not change.
    """

    def __init__(self, table: RouteTable, now: float, before: Accounts | None = None) -> None:
        self._kept: dict[str, tuple[Tenant, Account]] = {}
        self._table = {tenant.id: tenant for tenant in table.tenants or (Tenant(id=ANONYMOUS),)}
        self._by_key: dict[bytes, Account] = {}
        self._operators: set[bytes] = set()
        """Digests of the table's keys of operators."""
        self._by_client: dict[bytes, Account] = {}
        self._live: dict[str, Tenant] = before._live if before else {}
        self._grants: dict[bytes, Grant] = before._grants if before else {}
        self._budgets: dict[str, tuple[float, float, str]] = before._budgets if before else {}
        for tenant in self._table.values():
            account = self._account(self._live.get(tenant.id, tenant), now, before)
            digests = [bytes.fromhex(key) for key in tenant.keys]
            self._by_key |= dict.fromkeys(digests, account)
            if tenant.operator:
                self._operators.update(digests)
            self._by_client |= {name.encode(): account for name in tenant.clients}
        for tenant in self._live.values():
            if tenant.id not in self._table:
                self._account(tenant, now, before)
        self._anybody = None if table.tenants else self._kept[ANONYMOUS][1]

    def _account(self, tenant: Tenant, now: float, before: Accounts | None) -> Account:
        fresh = Account(tenant, now)
        known = before._kept.get(tenant.id) if before else None
        if known is not None:
            earlier, account = known  # the same object, because running requests settle with it
            account.models, account.budget = fresh.models, fresh.budget
            if earlier.requests_per_minute != tenant.requests_per_minute:
                account.requests = fresh.requests
            if earlier.tokens_per_minute != tenant.tokens_per_minute:
                account.tokens = fresh.tokens
            fresh = account
        if (said := self._budgets.get(tenant.id)) is not None:
            fresh.bill(*said)
        self._kept[tenant.id] = (tenant, fresh)
        return fresh

    # --- changes at run time ----------------------------------------------------------------------

    def keep(self, tenant: Tenant, now: float) -> None:
        """Add a tenant, or change its limits."""
        self._live[tenant.id] = tenant
        self._account(tenant, now, self)

    def drop(self, name: str) -> None:
        """Remove a tenant. Keys of it become invalid."""
        self._live.pop(name, None)
        if name not in self._table:
            self._kept.pop(name, None)

    def grant(self, digest: bytes, grant: Grant | None) -> None:
        """Set the rights of a key; None revokes it."""
        if grant is None:
            self._grants.pop(digest, None)
        else:
            self._grants[digest] = grant

    def budget(self, name: str, said: tuple[float, float, str] | None) -> None:
        """Set Billing's (budget, spent, month) of a tenant; None removes the budget."""
        if said is None:
            self._budgets.pop(name, None)
        else:
            self._budgets[name] = said
        if (known := self._kept.get(name)) is not None:
            tenant, account = known
            if said is not None:
                account.bill(*said)
            else:
                account.budget, account.billed = tenant.budget_usd, 0.0

    # --- callers ----------------------------------------------------------------------------------

    def of(self, digest: bytes, client: bytes) -> Account | None:
        """Account of an API key, by its digest, or of a client that the gateway has authenticated."""
        if self._anybody is not None:
            return self._anybody
        if not digest:
            return self._by_client.get(client)
        grant = self._grants.get(digest)
        if grant is None:
            return self._by_key.get(digest)
        if not grant.allows(Scope.INFERENCE) or not grant.fresh():
            return None
        known = self._kept.get(grant.tenant)
        return known[1] if known is not None else None

    def who(self, digest: bytes) -> bytes:
        """Identity of a caller within its tenant: the key's user, with any of the user's keys, or else the key."""
        grant = self._grants.get(digest)
        return b"user:" + grant.user.encode() if grant is not None and grant.user else digest

    def known(self, digest: bytes) -> Grant | None:
        """Rights of a key that comes from the User service; None for other keys."""
        return self._grants.get(digest)

    def from_user(self, digest: bytes) -> bool:
        """Whether the key comes from the User service, which may have revoked it since."""
        return digest in self._grants

    def operates(self, digest: bytes, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the caller is an operator. Without tenants: whoever the gateway has not marked as a client."""
        grant = self._grants.get(digest)
        if grant is not None:
            return grant.operator
        return digest in self._operators or (self._anybody is not None and b"x-client-id" not in headers)

    def grant_of(self, key: bytes) -> Grant | None:
        """Rights of an API key's holder; None for an unknown or revoked key."""
        if self._anybody is not None:
            return Grant(ANONYMOUS, scopes=(Scope.ADMIN,))  # all callers that the gateway admits
        digest = hashlib.sha256(key).digest()
        if (grant := self._grants.get(digest)) is not None:
            return grant if grant.fresh() else None
        account = self._by_key.get(digest)
        if account is None:
            return None
        return Grant(account.id, scopes=(Scope.ADMIN,) if self._table[account.id].operator else TENANT_SCOPES)

    def all(self) -> list[Account]:
        """Every account."""
        return [account for _, account in self._kept.values()]
