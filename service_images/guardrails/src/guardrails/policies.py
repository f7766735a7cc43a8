"""Policies of tenants, received from the User service through NATS. They are in force within a second."""

from __future__ import annotations

from kit import bus
from kit.guard_policy import Policy, Rule
from pydantic import ValidationError

from guardrails.policy import Compiled

BUCKET = "policies"


class Policies:
    """Policies by tenant, with the platform's default for all others."""

    def __init__(self) -> None:
        self.default = Compiled(Policy())
        self.everything = Compiled(
            Policy(packs=(), rules=tuple(Rule(detect=c, action="flag") for c in ("pii", "secret", "prompt_injection")))
        )
        self._own: dict[str, Compiled] = {}

    def of(self, tenant: str) -> Compiled:
        """Policy of a tenant."""
        return self._own.get(tenant, self.default)

    def take(self, key: str, value: bytes | None) -> None:
        """Set or remove a tenant's policy. An invalid one changes nothing.

        Raises ValueError with the reason, but without the policy's content.
        """
        (tenant,) = bus.parts(key)
        if value is None:
            self._own.pop(tenant, None)
            return
        try:
            self._own[tenant] = Compiled(Policy.model_validate_json(value))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
