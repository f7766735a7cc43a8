"""Starts Guardrails."""

from __future__ import annotations

from kit import bus, rpc, service
from kit.following import Following
from kit.kafka import Sender
from kit.settings import ServiceSettings
from starlette.applications import Starlette

from guardrails.api import Api
from guardrails.calls import Calls
from guardrails.checking import Checker
from guardrails.guard import Guard
from guardrails.policies import BUCKET, Policies
from guardrails.telling import Decisions


class GuardrailsSettings(ServiceSettings):
    """Guardrails' settings."""

    name: str = "guardrails"


def create(settings: GuardrailsSettings) -> Starlette:
    """The application."""
    guard, policies = Guard(), Policies()
    checker = Checker(guard)
    sender = Sender(settings) if settings.kafka_bootstrap else None
    decisions = Decisions(sender.send if sender else None)
    callers = service.callers(settings)
    followed = Following(settings.nats_url, BUCKET, policies.take, bus.options(settings)) if settings.nats_url else None
    calls = rpc.Server(settings.rpc_port, Calls(guard, policies, decisions, checker).add, host=settings.host)
    return service.create(
        "Guardrails",
        Api(checker, policies, decisions).operations(),
        beside=[part for part in (checker, calls, followed, callers, sender) if part],
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    return service.main(GuardrailsSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
