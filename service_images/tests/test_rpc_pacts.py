"""Contracts of gRPC calls (Pact): callers write down their needs, and callees are verified.

The messages are in kit/protos, whose breaking changes buf finds; the pacts say which of them are used, and how.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from cogniforge.embeddings.v1 import embeddings_pb2
from cogniforge.guardrails.v1 import guardrails_pb2
from cogniforge.prompt.v1 import prompt_pb2
from cogniforge.router.v1 import router_pb2
from cogniforge.user.v1 import user_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from pact import Pact, Verifier, match

pytestmark = pytest.mark.contract
SOURCES = Path(__file__).resolve().parents[1]
for name in ("kit", "user", "router", "guardrails", "prompt", "retriever", "embeddings"):
    sys.path.insert(0, str(SOURCES / name / "src"))

from embeddings.batching import Batcher  # noqa: E402
from embeddings.calls import Calls as EmbeddingsCalls  # noqa: E402
from embeddings.engine import Engine  # noqa: E402
from embeddings.vectors import Vectors  # noqa: E402
from guardrails.calls import Calls as GuardrailsCalls  # noqa: E402
from guardrails.guard import Guard as Looking  # noqa: E402
from guardrails.policies import Policies  # noqa: E402
from kit import identity, migrate, rpc  # noqa: E402
from kit.cache import Cache  # noqa: E402
from kit.database import Database  # noqa: E402
from kit.directory import Grant  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from prompt import store  # noqa: E402
from prompt.api import Api as PromptApi  # noqa: E402
from prompt.calls import Calls as PromptCalls  # noqa: E402
from prompt.models import NewVersion  # noqa: E402
from prompt.rendering import Renderer  # noqa: E402
from retriever.answering import Answering, messages  # noqa: E402
from retriever.embedding import Embeddings  # noqa: E402
from retriever.engines import Hit  # noqa: E402
from retriever.models import Ask  # noqa: E402
from retriever.searching import Readers  # noqa: E402
from router.calls import Calls as RouterCalls  # noqa: E402
from router.core import Core  # noqa: E402
from router.guard import Guard  # noqa: E402
from router.prompts import Prompts  # noqa: E402
from router.routes import RouteTable  # noqa: E402
from user import keys, relations  # noqa: E402
from user.__main__ import UserSettings  # noqa: E402
from user.api import Api as UserApi  # noqa: E402
from user.calls import Calls as UserCalls  # noqa: E402
from user.models import Tuple  # noqa: E402

from service_images.router.tests.conftest import Target  # noqa: E402

KEY = "cf-the-key-of-this-pact"
EXCHANGE = SimpleNamespace(
    tenant=b"acme", traceparent=b"", ask=None, trace_id=b"", guard_required=False, request_id=b"r", verdicts=None
)  # attributes of a request that the Router's modules read


async def guard_a_text(target: str) -> None:
    """The Router calls Guardrails with a request."""
    content = {"messages": [{"role": "user", "content": "mail ann@example.com"}]}
    action = await Guard(target).look(EXCHANGE, guardrails_pb2.DIRECTION_INPUT, content)  # type: ignore[arg-type]
    assert (action, content["messages"][0]["content"]) == ("redact", "mail <EMAIL>")


async def render_a_prompt(target: str) -> None:
    """The Router requests a stored prompt from Prompt."""
    named = {"prompt": {"id": "greeting", "label": "production", "variables": {"who": "ann"}}}
    found = await Prompts(target).render(EXCHANGE, named)  # type: ignore[arg-type]
    assert found.said == [{"role": "system", "content": "Hello ann"}] and found.version == "greeting@1"


async def embed_a_text(target: str) -> None:
    """Retriever requests a vector from Embeddings."""
    (vector,) = await Embeddings(target).embed(["cats sleep"])
    assert len(vector) == 384


async def order_texts(target: str) -> None:
    """Retriever requests a reranking from Embeddings."""
    assert len(await Embeddings(target).rerank("do cats sleep?", ["cats sleep"])) == 1


async def teams_of_a_user(target: str) -> None:
    """Retriever requests a user's reader names from User."""
    assert await Readers(target).teams(Grant("acme", user="ann"), KEY) == ["team:red"]


HIT = Hit("1", "file-1", 0, "Cats sleep.", {}, 1.0)
QUESTION = Ask(question="Do cats sleep?", model="m")


async def answer_a_question(target: str) -> None:
    """Retriever requests an answer from passages from the Router."""
    answering = Answering(target)
    try:
        found = await answering.answer(QUESTION, [HIT], {"file-1": "cats.txt"}, {"authorization": f"Bearer {KEY}"})
    finally:
        await answering.close()
    assert (found.answer, found.usage["total_tokens"]) == ("Yes [1].", 8)


class Pair:
    """All pacts: caller, callee, request, and the required part of the answer."""

    def __init__(
        self,
        names: tuple[str, str],
        method: str,
        ask: Callable[[str], Awaitable[None]],
        request: Any,
        response: type[Any],
        answer: dict[str, Any],
        relied: dict[str, Any],
    ) -> None:
        self.names, self.method, self.ask = names, method, ask
        self.request, self.response, self.answer, self.relied = request, response, answer, relied


_ZERO = "AAAA" * 512  # 384 numbers of 32 bits, in base64
STARTS_MS = 60_000
"""Seconds for a service to start and answer, on a busy machine."""
PAIRS = {
    "a text to be guarded": Pair(
        ("router", "guardrails"),
        "/cogniforge.guardrails.v1.GuardrailsService/Check",
        guard_a_text,
        guardrails_pb2.CheckRequest(
            tenant="acme", direction=guardrails_pb2.DIRECTION_INPUT, texts=["mail ann@example.com"], others=[0]
        ),
        guardrails_pb2.CheckResponse,
        {"action": "ACTION_REDACT", "texts": ["mail <EMAIL>"]},
        {"action": "ACTION_REDACT", "texts": ["mail <EMAIL>"]},
    ),
    "a stored prompt": Pair(
        ("router", "prompt"),
        "/cogniforge.prompt.v1.PromptService/Render",
        render_a_prompt,
        prompt_pb2.RenderRequest(tenant="acme", name="greeting", label="production", variables=b'{"who":"ann"}'),
        prompt_pb2.RenderResponse,
        {"version": 1, "messages": [{"role": "system", "content": "Hello ann"}]},
        {"version": match.int(1), "messages": match.each_like({"role": "system", "content": match.str("Hello ann")})},
    ),
    "vectors of texts": Pair(
        ("retriever", "embeddings"),
        "/cogniforge.embeddings.v1.EmbeddingsService/Embed",
        embed_a_text,
        embeddings_pb2.EmbedRequest(texts=["cats sleep"]),
        embeddings_pb2.EmbedResponse,
        {"vectors": [_ZERO], "tokens": 4},
        {"vectors": match.each_like(match.regex(_ZERO, regex="[A-Za-z0-9+/]{2048}")), "tokens": match.int(4)},
    ),
    "an order of texts": Pair(
        ("retriever", "embeddings"),
        "/cogniforge.embeddings.v1.EmbeddingsService/Rerank",
        order_texts,
        embeddings_pb2.RerankRequest(query="do cats sleep?", texts=["cats sleep"]),
        embeddings_pb2.RerankResponse,
        {"scores": [0.5]},
        {"scores": match.each_like(match.decimal(0.5))},
    ),
    "an answer from passages": Pair(
        ("retriever", "router"),
        "/cogniforge.router.v1.RouterService/Chat",
        answer_a_question,
        router_pb2.ChatRequest(
            model="m",
            messages=[router_pb2.Message(**message) for message in messages(QUESTION.question, [HIT])],
            max_tokens=QUESTION.max_tokens,
            temperature=0,
        ),
        router_pb2.ChatResponse,
        {"content": "Yes [1].", "inputTokens": 5, "outputTokens": 3},
        {"content": match.str("Yes [1]."), "inputTokens": match.int(5), "outputTokens": match.int(3)},
    ),
    "the teams of a user": Pair(
        ("retriever", "user"),
        "/cogniforge.user.v1.UserService/ListObjects",
        teams_of_a_user,
        user_pb2.ListObjectsRequest(tenant="acme", subject="user:ann", relation="member", type="team"),
        user_pb2.ListObjectsResponse,
        {"objects": ["team:red"]},
        {"objects": match.each_like("team:red")},
    ),
}


@asynccontextmanager
async def standing_in(pair: Pair, asked: list[Any]) -> Any:
    """A server that answers according to a pact, and records requests."""

    async def method(request: Any, _: Any) -> Any:
        asked.append(request)
        return ParseDict(pair.answer, pair.response())

    service, _, name = pair.method.strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=type(pair.request).FromString,
        response_serializer=pair.response.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    try:
        await server.start()
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def written(name: str, folder: Path) -> Path:
    """Run the caller's real code: its request must match the pact."""
    pair = PAIRS[name]
    pact = Pact(*pair.names).with_specification("V4")
    interaction = pact.upon_receiving(name, "Sync").with_body(MessageToDict(pair.request), "application/json")
    interaction.will_respond_with().with_body(pair.relied, "application/json")

    def handler(body: str | bytes | None, _: Any) -> None:
        async def ask() -> list[Any]:
            asked: list[Any] = []
            async with standing_in(pair, asked) as target:
                await pair.ask(target)
            return asked

        (sent,) = asyncio.run(ask())
        assert sent == ParseDict(json.loads(body or b""), type(pair.request)())

    pact.verify(handler, "Sync")
    pact.write_file(folder)
    return folder / f"{pair.names[0]}-{pair.names[1]}.json"


class Answers:
    """The real services, each in its own loop, with the data that the pacts need."""

    def __init__(
        self,
        service_database: Callable[[str], dict[str, Any]],
        model_folder: Callable[[], Path],
        upstream: Callable[[], str],
    ) -> None:
        self._database, self._model, self._upstream = service_database, model_folder, upstream

    async def of(self, name: str, stack: AsyncExitStack) -> Callable[[Any], None]:
        """The servicer to add to a server."""
        if name == "guardrails":
            policies = Policies()
            policies.take("acme", json.dumps({"packs": ["gdpr"]}).encode())
            return GuardrailsCalls(Looking(), policies).add
        if name == "embeddings":
            engine = Engine(self._model(), 1)
            batcher = Batcher(engine.run)
            running = asyncio.create_task(batcher.run())
            stack.callback(running.cancel)
            return EmbeddingsCalls(Vectors(engine, batcher, Cache(ServiceSettings(name="embeddings")))).add
        if name == "router":
            return RouterCalls(Core(RouteTable.model_validate(self._routes()))).add
        settings = ServiceSettings(name=name, **self._database(name))
        migrate.migrate(name, settings.database(pooled=False))
        database = Database(settings)
        await database.open()
        stack.push_async_callback(database.close)
        return await (self._prompt(database) if name == "prompt" else self._user(database))

    def _routes(self) -> dict[str, Any]:
        tenant = {"id": "acme", "keys": [hashlib.sha256(KEY.encode()).hexdigest()]}
        return {"routes": [{"model": "m", "upstream": self._upstream()}], "tenants": [tenant]}

    @staticmethod
    async def _prompt(database: Database) -> Callable[[Any], None]:
        async with database.transaction() as connection:
            wanted = NewVersion.model_validate({"name": "greeting", "prompt": "Hello {{ who }}"})
            made, _ = await store.add(connection, store.QUOTAS, "acme", wanted, [], "test")
            await store.place(connection, store.QUOTAS, "acme", "greeting", "production", made.version, None, True)
        return PromptCalls(PromptApi(database, None, Renderer(Cache(ServiceSettings(name="prompt"))))).add

    @staticmethod
    async def _user(database: Database) -> Callable[[Any], None]:
        async with database.transaction() as connection:
            await keys.install(connection, UserSettings.model_fields["installation_tenant"].default, KEY)
            await connection.execute("INSERT INTO tenants (id, name) VALUES ('acme', 'acme')")
            relation = {"object": "team:red", "relation": "member", "subject": "user:ann"}
            await relations.write(connection, "acme", [Tuple.model_validate(relation)])
        return UserCalls(UserApi(database, None, None)).add


async def answered(answers: Answers, pair: Pair, request: Any) -> dict[str, Any]:
    """Verify a pact with the real service over a real channel."""
    callee = pair.names[1]
    settings = ServiceSettings(name=callee, rpc_port=0, host="127.0.0.1")
    async with AsyncExitStack() as stack:
        server = rpc.Server(settings, await answers.of(callee, stack))
        running = asyncio.create_task(server.run())
        stack.callback(running.cancel)
        while not server.port:
            await asyncio.sleep(0.01)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))
        call = channel.unary_unary(
            pair.method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=pair.response.FromString,
        )
        return MessageToDict(
            await call(request, metadata=(("authorization", f"Bearer {KEY}"), *identity.OWN.metadata(callee)))
        )


@pytest.fixture
def upstream() -> Iterator[str]:
    """The model server of the Router's own tests."""
    target = Target("a")
    yield target.url
    target.stop()


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_providers_keep_the_contracts_of_their_callers(
    name: str, service_database: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pair, file = PAIRS[name], written(name, tmp_path)
    answers = Answers(
        service_database,
        lambda: request.getfixturevalue("model_folder"),
        lambda: request.getfixturevalue("upstream"),
    )

    def produce(**reported: Any) -> Any:
        asked = ParseDict(reported["metadata"]["request"]["contents"]["content"], type(pair.request)())
        content = asyncio.run(answered(answers, pair, asked))
        return {"contents": json.dumps(content).encode(), "content_type": "application/json", "metadata": None}

    verifier = Verifier(pair.names[1]).add_source(str(file)).message_handler({name: produce})
    verifier.set_request_timeout(STARTS_MS).verify()


def test_a_service_that_answers_otherwise_is_found(tmp_path: Path) -> None:
    file = written("the teams of a user", tmp_path)
    other: Any = {"contents": b'{"names": ["team:red"]}', "content_type": "application/json", "metadata": None}
    verifier = Verifier("user").add_source(str(file)).message_handler({"the teams of a user": other})
    with pytest.raises(RuntimeError):
        verifier.verify()
