"""Entry point of the Prompt service."""

from __future__ import annotations

from kit import dead_letters, replicas, rpc, service
from kit.bus import Bus
from kit.cache import Cache
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.in_force import InForce
from kit.quotas import QuotaSettings
from kit.tenant_deletion import Erasing
from starlette.applications import Starlette

from prompt import store
from prompt.api import PREFIX, Api
from prompt.calls import Calls
from prompt.rendering import Renderer
from prompt.store import PromptPublisher


class PromptSettings(QuotaSettings):
    """Settings of the Prompt service."""

    name: str = "prompt"


def create(settings: PromptSettings) -> Starlette:
    """The application."""
    database, cache = Database(settings), Cache(settings)
    nats = Bus(settings) if settings.nats_url else None
    publisher = PromptPublisher(database, nats) if nats else None
    in_force = InForce(nats, store.BUCKET) if nats else None
    callers = service.callers(settings)
    renderer = Renderer(cache)
    api = Api(database, publisher, renderer, store.QUOTAS.given(settings.quotas, settings.quotas_of))
    letters = publisher.letters if publisher else DeadLetters(database)
    erasing = Erasing(database, settings.name, store.erase, lambda t: callers is not None and t in callers.tenants)
    deleted = erasing.events(settings, letters)
    calls = rpc.Server(settings, Calls(api).add)
    return service.create(
        "Prompt",
        [*api.operations(), *dead_letters.operations(PREFIX, letters), *replicas.operations(PREFIX, in_force)],
        database=database,
        beside=[part for part in (cache, publisher, in_force, callers, calls, deleted) if part],
        close=[cache.close, renderer.close, *([nats.close] if nats else [])],
        checks={"callers": calls.check, **({"kafka": deleted.check} if deleted else {})},
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    return service.main(PromptSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
