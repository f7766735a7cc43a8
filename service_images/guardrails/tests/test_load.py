"""Large texts, hostile schemas and odd requests: refused clearly, and no burden for anybody else."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc
import httpx
import pytest
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from guardrails import checking
from guardrails.__main__ import GuardrailsSettings
from guardrails.calls import Calls
from guardrails.checking import Checker
from guardrails.policies import Policies
from guardrails.policy import Compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import rpc
from kit.errors import ApiError
from kit.guard_policy import Action, Direction, Policy
from kit.limits import GUARD_PIECE

from .shared import guard

STRICT = Compiled(Policy.model_validate({"packs": ["gdpr", "secrets"]}))
PHONES = "+49 30 901820 and " * 35_000


def checked(checker: Checker, tenant: str, text: str) -> Any:
    return checker.check(tenant, STRICT, Direction.INPUT, [text])


def test_small_checks_go_on_while_another_tenants_large_one_runs() -> None:
    async def talk() -> list[float]:
        checker = Checker(guard())
        large = asyncio.create_task(checked(checker, "a", PHONES))
        waits: list[float] = []
        await asyncio.sleep(0)
        while not large.done() and len(waits) < 2000:
            started = time.perf_counter()
            assert (await checked(checker, "b", "ann@example.com"))[0].action is Action.REDACT
            await asyncio.sleep(0)
            waits.append(time.perf_counter() - started)
        large.cancel()
        checker.close()
        return waits

    waits = sorted(asyncio.run(talk()))
    assert len(waits) >= 20  # in its event loop, none would have gone on meanwhile


def test_a_text_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LIMIT_S", 0.01)

    async def talk() -> None:
        checker = Checker(guard())
        with pytest.raises(ApiError) as refused:
            await checked(checker, "a", PHONES)
        assert (refused.value.status, refused.value.code) == (413, "content_too_large")
        # The thread is free again.
        monkeypatch.setattr(checking, "LIMIT_S", 30)
        assert (await checked(checker, "a", "fine " * 5000))[0].action is Action.ALLOW
        checker.close()

    asyncio.run(talk())


def test_large_checks_of_tenants_take_turns() -> None:
    async def talk() -> list[str]:
        checker = Checker(guard())
        ended: list[str] = []

        async def one(tenant: str) -> None:
            await checked(checker, tenant, "words " * 5000)
            ended.append(tenant)

        await asyncio.gather(*(one("a") for _ in range(6)), one("b"))
        checker.close()
        return ended

    assert asyncio.run(talk()).index("b") <= 2


def test_only_so_many_large_checks_of_a_tenant_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "WAITING_EACH", 2)

    async def talk() -> list[Any]:
        checker = Checker(guard())
        found = await asyncio.gather(
            *(checked(checker, "a", "words " * 5000) for _ in range(5)), return_exceptions=True
        )
        checker.close()
        return [error.status for error in found if isinstance(error, ApiError)]

    assert asyncio.run(talk()) == [429, 429]


def test_more_text_than_can_be_checked_is_refused(guardrails: httpx.Client) -> None:
    asked = {"texts": ["x" * 600_000, "y" * 600_000]}
    answer = guardrails.post("/v1/guard/check", json=asked)
    assert answer.status_code == 413 and "1,048,576" in answer.json()["error"]["message"]
    assert guardrails.post("/v1/moderations", json={"input": asked["texts"]}).status_code == 413


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_schema_that_refers_elsewhere_is_refused(guardrails: httpx.Client, keyword: str) -> None:
    policy = {"output_schema": {keyword: "http://127.0.0.1:9/never-asked"}}
    answer = guardrails.post("/v1/guard/check", json={"text": "1", "direction": "output", "policy": policy})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "policy.output_schema"


def test_a_schema_and_a_text_that_together_take_long_are_bounded(guardrails: httpx.Client) -> None:
    asked = {"text": str([{"a": n} for n in range(2000)]).replace("'", '"'), "direction": "output",
             "policy": {"packs": [], "output_schema": {"uniqueItems": True}}}  # fmt: skip
    started = time.process_time()
    assert guardrails.post("/v1/guard/check", json=asked).json()["action"] == "allow"
    assert time.process_time() - started < 2  # it took 10 s


def test_topics_take_words_of_all_scripts() -> None:
    policy = Compiled(Policy.model_validate({"topics": [{"name": "t", "words": ["übung", "炸弹", "c++", "водка"]}]}))
    for text in ("die Übung", "怎么做炸弹呢", "in c++ now", "пить Водка", "ВОДКА", "вОдКа", "u\u0308bung"):
        assert guard().check(text, policy, Direction.INPUT).action is Action.BLOCK, text
    assert guard().check("leibesubungen", policy, Direction.INPUT).action is Action.ALLOW


def test_what_overlaps_in_part_is_redacted_whole() -> None:
    rules = [{"detect": "email", "action": "redact"}]
    topics = [{"name": "t", "words": ["write to ann"], "action": "redact"}]
    policy = Compiled(Policy.model_validate({"packs": [], "rules": rules, "topics": topics}))
    said = guard().check("please write to ann@example.com now", policy, Direction.INPUT).text
    assert "write" not in said and "example" not in said


# --- any request ------------------------------------------------------------------------------------

TEXTS = st.text(max_size=200) | st.sampled_from(
    ["4111 1111 1111 1111", "&#64;", "%41%", "\\u00", "\U000e0041", "=" * 90]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
BODIES = (
    st.dictionaries(st.sampled_from(["text", "texts", "direction", "policy", "input", "model"]), JSON, max_size=3)
    | JSON
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["/v1/guard/check", "/v1/moderations"]), BODIES)
def test_any_request_is_answered_or_refused(guardrails: httpx.Client, path: str, body: Any) -> None:
    answer = guardrails.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    assert answer.status_code < 400 or answer.json()["error"]["message"]


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS.map(lambda text: text.encode(errors="replace").decode()), max_size=4), st.integers(0, 9),
       st.lists(st.integers(0, 2**32 - 1), max_size=2), st.booleans())  # fmt: skip
def test_any_call_is_answered_or_refused(texts: list[str], direction: int, others: list[int], last: bool) -> None:
    calls = Calls(guard(), Policies())

    class Context:
        def invocation_metadata(self) -> tuple[()]:
            return ()

        async def abort(self, code: grpc.StatusCode, *_: Any) -> None:
            raise AssertionError(code)

    async def talk() -> None:
        asked = messages.CheckRequest(tenant="t", texts=texts, direction=direction, others=others)  # type: ignore[arg-type]
        assert len((await calls.Check(asked, Context())).texts) == len(texts)

        async def pieces() -> Any:
            for text in texts:
                yield messages.StreamRequest(tenant="t", text=text, direction=direction)  # type: ignore[arg-type]
            yield messages.StreamRequest(last=last)

        async for answer in calls.Stream(pieces(), Context()):
            assert answer.action

    asyncio.run(talk())


def test_a_piece_that_is_too_large_is_refused() -> None:
    async def talk() -> None:
        server = rpc.Server(GuardrailsSettings(rpc_port=0, host="127.0.0.1"), Calls(guard(), Policies()).add)
        running = asyncio.create_task(server.run())
        while not server.port:
            await asyncio.sleep(0.01)
        async with rpc.channel(f"127.0.0.1:{server.port}") as channel:
            stub: Any = service.GuardrailsServiceStub(rpc.Identified(channel, "guardrails"))

            async def pieces() -> Any:
                yield messages.StreamRequest(tenant="t", text="x" * (GUARD_PIECE.most + 1))

            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in stub.Stream(pieces()):
                    pass
            assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
        running.cancel()

    asyncio.run(asyncio.wait_for(talk(), 30))
