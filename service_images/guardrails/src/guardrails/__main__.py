"""Entry point of the Guardrails service."""

from __future__ import annotations

from pathlib import Path

from kit import bus, kafka, rpc, service
from kit.following import Following
from kit.sender import Sender
from kit.settings import ServiceSettings
from kit.spill import Spill
from pydantic import Field
from starlette.applications import Starlette

from guardrails.api import Api
from guardrails.calls import Calls
from guardrails.checking import Checker
from guardrails.decisions import TOPIC, Decisions
from guardrails.guard import Guard
from guardrails.policies import BUCKET, Policies


class GuardrailsSettings(ServiceSettings):
    """Settings of the Guardrails service."""

    name: str = "guardrails"
    spill_folder: Path = Path("/tmp/events")
    """Folder for decision events while Kafka is unavailable and memory is full."""
    spill_bytes: int = Field(default=32 * 2**20, ge=0)
    """Most bytes in that folder. A decision takes 500 bytes."""


def create(settings: GuardrailsSettings) -> Starlette:
    """The application."""
    guard, policies = Guard(), Policies()
    checker = Checker(guard)
    sender = None
    if settings.kafka_bootstrap:
        sender = Sender(kafka.client(settings), Spill(settings.spill_folder, settings.spill_bytes), TOPIC)
    decisions = Decisions(sender.send if sender else None)
    callers = service.callers(settings)
    followed = Following(settings.nats_url, BUCKET, policies.take, bus.options(settings)) if settings.nats_url else None
    calls = rpc.Server(settings, Calls(guard, policies, decisions, checker).add)
    return service.create(
        "Guardrails",
        Api(checker, policies, decisions).operations(),
        beside=[part for part in (checker, calls, followed, callers, sender) if part],
        close=[checker.close],
        checks={"callers": calls.check},
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    return service.main(GuardrailsSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
