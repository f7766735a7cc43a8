"""Entry point of the Embeddings service."""

from __future__ import annotations

import os
from pathlib import Path

from kit import rpc, service
from kit.cache import Cache
from kit.directory import Grant
from kit.rest import ANYBODY
from kit.settings import ServiceSettings
from pydantic import Field
from starlette.applications import Starlette

from embeddings.api import Api
from embeddings.batching import Batcher
from embeddings.calls import Calls
from embeddings.detokenizing import Detokenizer
from embeddings.engine import Engine
from embeddings.vectors import Vectors


class EmbeddingsSettings(ServiceSettings):
    """Settings of the Embeddings service."""

    name: str = "embeddings"
    model_folder: Path = Path("/opt/model")
    threads: int = Field(default=0, ge=0, le=256)
    """Number of threads of the model; 0 means the number of cores of this process."""


def create(settings: EmbeddingsSettings) -> Starlette:
    """The application. REST and gRPC accept the tokens of services only, such as the Router's."""
    engine = Engine(settings.model_folder, settings.threads or len(os.sched_getaffinity(0)))
    batcher, cache = Batcher(engine.run), Cache(settings)
    vectors = Vectors(engine, batcher, cache)
    calls = rpc.Server(settings, Calls(vectors).add)

    async def admit(token: str) -> Grant:
        await calls.callers.admit(token)
        return ANYBODY

    return service.create(
        "Embeddings",
        Api(vectors, Detokenizer(settings.model_folder)).operations(),
        beside=[batcher, calls, cache],
        close=[cache.close],
        checks={"callers": calls.check},
        authenticate=admit,
    )


def main() -> int:
    """Serve."""
    return service.main(EmbeddingsSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
