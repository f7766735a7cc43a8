"""Large texts, hostile schemas and odd requests are refused clearly, and do not affect other callers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import psutil
import pytest
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from guardrails import checking
from guardrails.__main__ import GuardrailsSettings
from guardrails.answers import Form, outcome
from guardrails.calls import SLICE, Calls
from guardrails.checking import Checker
from guardrails.policies import Policies
from guardrails.policy import Compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import rpc
from kit.errors import ApiError
from kit.guard_policy import Action, Direction, Policy
from kit.limits import GUARD_PIECE
from kit.workers import Limits

from .shared import guard

STRICT = Compiled(Policy.model_validate({"packs": ["gdpr", "secrets"]}))
PHONES = "+49 30 901820 and " * 35_000


def checked(checker: Checker, tenant: str, text: str) -> Any:
    return checker.check(tenant, STRICT, Direction.INPUT, [text])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def checker(runner: asyncio.Runner) -> Iterator[Checker]:
    """Guardrails with a ready worker."""

    async def start() -> tuple[Checker, asyncio.Task[None]]:
        made = Checker(guard())
        running = asyncio.create_task(made.run())
        while not made.pids:
            await asyncio.sleep(0.05)
        return made, running

    made, running = runner.run(start())
    yield made
    running.cancel()
    runner.run(made.close())


def test_small_checks_continue_during_another_tenants_large_one(runner: asyncio.Runner, checker: Checker) -> None:
    async def talk() -> int:
        large = asyncio.create_task(checked(checker, "a", PHONES))
        done = 0
        await asyncio.sleep(0)
        while not large.done() and done < 2000:
            assert (await checked(checker, "b", "ann@example.com")).action is Action.REDACT
            await asyncio.sleep(0)
            done += 1
        await asyncio.wait([large])
        return done

    assert runner.run(talk()) >= 20  # a check in the event loop would have blocked all


def test_a_large_text_is_answered_as_a_small_one(runner: asyncio.Runner, checker: Checker) -> None:
    texts = ["fine " * 4000, "mail ann@example.com", "ü 4111 1111 1111 1111"]
    for form in Form:
        large = runner.run(checker.check("a", STRICT, Direction.INPUT, texts, form=form))
        here = outcome([guard().check(text, STRICT, Direction.INPUT) for text in texts], form)
        assert large == here


def test_a_text_that_takes_too_long_is_refused(
    runner: asyncio.Runner, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "LIMIT_S", 0.01)
    with pytest.raises(ApiError) as refused:
        runner.run(checked(checker, "a", PHONES))
    assert (refused.value.status, refused.value.code) == (413, "content_too_large")
    # The worker is available again.
    monkeypatch.setattr(checking, "LIMIT_S", 30)
    (before,) = checker.pids
    assert runner.run(checked(checker, "a", "fine " * 5000)).action is Action.ALLOW
    assert checker.pids == [before]


def test_a_cancelled_caller_ends_no_worker(runner: asyncio.Runner, checker: Checker) -> None:
    async def talk() -> None:
        (before,) = checker.pids
        asked = asyncio.create_task(checked(checker, "a", PHONES[:300_000]))
        await asyncio.sleep(0.01)
        asked.cancel()
        assert (await checked(checker, "b", "fine " * 5000)).action is Action.ALLOW
        assert checker.pids == [before]

    runner.run(talk())


def test_large_checks_of_tenants_take_turns(runner: asyncio.Runner, checker: Checker) -> None:
    async def talk() -> list[str]:
        ended: list[str] = []

        async def one(tenant: str) -> None:
            await checked(checker, tenant, "words " * 5000)
            ended.append(tenant)

        await asyncio.gather(*(one("a") for _ in range(6)), one("b"))
        return ended

    assert runner.run(talk()).index("b") <= 2


def test_only_so_many_large_checks_of_a_tenant_wait(
    runner: asyncio.Runner, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker._workers, "_waiting_each", 2)

    async def talk() -> list[Any]:
        found = await asyncio.gather(
            *(checked(checker, "a", "words " * 5000) for _ in range(5)), return_exceptions=True
        )
        return [error.status for error in found if isinstance(error, ApiError)]

    assert runner.run(talk()) == [429, 429]


def test_a_worker_that_does_not_give_up_is_killed_and_another_is_ready(
    runner: asyncio.Runner, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = checker.pids
    monkeypatch.setattr(checker._workers, "_limits", Limits(cpu_s=0.05, wall_s=60))
    monkeypatch.setattr(checking, "LIMIT_S", 60)
    with pytest.raises(ApiError) as refused:
        runner.run(checked(checker, "a", PHONES))
    assert (refused.value.status, refused.value.code) == (413, "content_too_large")
    assert not psutil.pid_exists(before)

    async def ready() -> list[int]:
        while not checker.pids:
            await asyncio.sleep(0.05)
        return checker.pids

    assert runner.run(ready()) != [before]


@pytest.mark.parametrize("piece", ["fine " * 13_000, "4111 1111 1111 1112 " * 3200, "ann@example.com " * 4000])
def test_others_have_their_turn_within_a_large_piece_of_a_stream(runner: asyncio.Runner, piece: str) -> None:
    calls = Calls(guard(), Policies())

    class Context:
        def invocation_metadata(self) -> tuple[()]:
            return ()

    async def talk() -> tuple[int, str]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def pieces() -> Any:
            yield messages.StreamRequest(tenant="t", text=piece, last=True)

        beside = asyncio.create_task(others())
        said = "".join([answer.text async for answer in calls.Stream(pieces(), Context())])
        beside.cancel()
        return turns, said

    turns, said = runner.run(talk())
    assert turns >= len(piece) // SLICE
    assert said == guard().check(piece, Policies().default, Direction.INPUT).text


def test_a_large_answer_that_must_have_a_shape_is_judged_beside(runner: asyncio.Runner, checker: Checker) -> None:
    policies = Policies()
    policies.take("t", b'{"packs": [], "output_schema": {"type": "object"}}')
    calls = Calls(guard(), policies, None, checker)

    class Context:
        def invocation_metadata(self) -> tuple[()]:
            return ()

    def said(text: str) -> list[Any]:
        async def pieces() -> Any:
            for place in range(0, len(text), 30_000):
                part = text[place : place + 30_000]
                last = place + 30_000 >= len(text)
                yield messages.StreamRequest(tenant="t", text=part, last=last, direction=messages.DIRECTION_OUTPUT)

        async def talk() -> list[Any]:
            return [answer async for answer in calls.Stream(pieces(), Context())]

        return runner.run(talk())

    good = json.dumps({"a": "x" * 100_000})
    assert "".join(answer.text for answer in said(good)) == good
    assert said(good + "]")[-1].action == messages.ACTION_BLOCK


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


def test_overlapping_findings_are_redacted_completely() -> None:
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
