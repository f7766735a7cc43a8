"""Each tenant's policy, as the User service tells it through NATS; in force within a second."""

from __future__ import annotations

from kit import bus
from kit.guard_policy import Policy, Rule
from pydantic import ValidationError

from guardrails.policy import Compiled

BUCKET = "policies"


class Policies:
    """By tenant; the platform's own for all others."""

    def __init__(self) -> None:
        self.default = Compiled(Policy())
        self.everything = Compiled(
            Policy(packs=(), rules=tuple(Rule(detect=c, action="flag") for c in ("pii", "secret", "prompt_injection")))
        )
        self._own: dict[str, Compiled] = {}

    def of(self, tenant: str) -> Compiled:
        """What holds for a tenant."""
        return self._own.get(tenant, self.default)

    def take(self, key: str, value: bytes | None) -> None:
        """A tenant's policy, or that it has none. One that cannot be understood changes nothing.

        Raises ValueError with the reason, without the policy's content.
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
