"""Authentication between services: issuing and checking of ServiceAccount tokens, with a real channel and real keys."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk, jwt
from kit import identity, rpc
from kit.errors import ApiError
from kit.identity import Callers, Issuer, Tokens
from kit.settings import ServiceSettings

from service_images.issuer import NAMESPACE, Cluster

ROUTER = f"{NAMESPACE}/router"


class Looking(service.GuardrailsServiceServicer):
    """Answers, and records that it was called."""

    def __init__(self) -> None:
        self.asked = 0

    @rpc.answers
    async def Check(self, request: Any) -> Any:
        self.asked += 1
        return messages.CheckResponse(texts=request.texts)

    @rpc.streams
    async def Stream(self, requests: Any) -> Any:
        async for _ in requests:
            self.asked += 1
            yield messages.StreamResponse()


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A cluster for one test."""
    made = Cluster(tmp_path / "issuer")
    yield made
    made.stop()


def called(talk: Callable[[rpc.Server, Any, Looking], Awaitable[None]], cluster: Cluster, *callers: str) -> Looking:
    """Run `talk` with a server that admits `callers`, and a stub that sends no token."""
    looking = Looking()

    async def run() -> None:
        given = {
            "name": "guardrails",
            "rpc_port": 0,
            "host": "127.0.0.1",
            "issuer": cluster.url,
            "issuer_folder": cluster.folder,
            "callers": callers or (ROUTER,),
        }
        server = rpc.Server(
            ServiceSettings(**given), lambda s: service.add_GuardrailsServiceServicer_to_server(looking, s)
        )
        running = asyncio.create_task(server.run())
        while not server.port:
            await asyncio.sleep(0.01)
        async with rpc.channel(f"127.0.0.1:{server.port}") as channel:
            await talk(server, service.GuardrailsServiceStub(channel), looking)
        running.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))
    return looking


def refusal(cluster: Cluster, token: str | None, *callers: str) -> tuple[grpc.StatusCode, str]:
    """The refusal of a call, a stream and a missing method, which must be equal."""
    sent: set[tuple[grpc.StatusCode, str]] = set()
    metadata = ((identity.HEADER, token),) if token is not None else ()

    async def talk(_: rpc.Server, stub: Any, __: Looking) -> None:
        async def nothing() -> Any:
            return
            yield

        with pytest.raises(grpc.aio.AioRpcError) as whole:
            await stub.Check(messages.CheckRequest(texts=["x"]), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            async for _ in stub.Stream(nothing(), metadata=metadata):
                pass
        sent.update((error.value.code(), error.value.details() or "") for error in (whole, stream))
        assert rpc.stranger(whole.value)

    assert called(talk, cluster, *callers).asked == 0
    (found,) = sent
    return found


def test_a_service_that_may_call_is_answered(cluster: Cluster) -> None:
    async def talk(server: rpc.Server, stub: Any, _: Looking) -> None:
        metadata = ((identity.HEADER, cluster.token("router", "guardrails")),)
        answer = await stub.Check(messages.CheckRequest(texts=["x"]), metadata=metadata)
        assert list(answer.texts) == ["x"] and await server.check() is None

        async def one() -> Any:
            yield messages.StreamRequest()

        assert len([answer async for answer in stub.Stream(one(), metadata=metadata)]) == 1

    assert called(talk, cluster).asked == 2


def test_bytes_that_are_no_message_are_the_callers_mistake(cluster: Cluster) -> None:
    async def talk(server: rpc.Server, _: Any, __: Looking) -> None:
        metadata = ((identity.HEADER, cluster.token("router", "guardrails")),)
        async with rpc.channel(f"127.0.0.1:{server.port}") as channel:
            path = "/cogniforge.guardrails.v1.GuardrailsService"
            whole = channel.unary_unary(f"{path}/Check")(b"\xff", metadata=metadata, timeout=5)
            stream = channel.stream_stream(f"{path}/Stream")(iter([b"\xff"]), metadata=metadata, timeout=5)
            for call in (whole, stream.read()):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    assert called(talk, cluster).asked == 0


def test_a_call_without_a_token_is_refused(cluster: Cluster) -> None:
    code, message = refusal(cluster, None)
    assert code is grpc.StatusCode.UNAUTHENTICATED and "has no service token" in message


def test_a_token_for_another_service_is_refused(cluster: Cluster) -> None:
    code, message = refusal(cluster, cluster.token("router", "prompt"))
    assert code is grpc.StatusCode.UNAUTHENTICATED and "for another service" in message


def test_a_service_that_may_not_call_is_refused(cluster: Cluster) -> None:
    code, message = refusal(cluster, cluster.token("billing", "guardrails"))
    assert code is grpc.StatusCode.PERMISSION_DENIED and f"{NAMESPACE}/billing may not call" in message


def test_the_same_name_in_another_namespace_is_another_service(cluster: Cluster) -> None:
    account = {"namespace": "evil", "serviceaccount": {"name": "router", "uid": "1"}}
    token = cluster.token("x", "guardrails", sub="system:serviceaccount:evil:router", **{"kubernetes.io": account})
    assert refusal(cluster, token)[0] is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"iss": "https://another.example"}, "of another issuer"),
        ({"exp": int(time.time()) - 60}, "has expired"),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"aud": []}, "for another service"),
        ({"sub": "system:serviceaccount:cogniforge:retriever"}, "two accounts"),
        ({"kubernetes.io": {"namespace": NAMESPACE}}, "not a valid token"),
        ({"kubernetes.io": "router"}, "not a valid token"),
        ({"exp": "never"}, "for another service"),
    ],
)
def test_a_claim_that_is_wrong_is_refused(cluster: Cluster, claims: dict[str, Any], says: str) -> None:
    code, message = refusal(cluster, cluster.token("router", "guardrails", **claims))
    assert code is grpc.StatusCode.UNAUTHENTICATED and says in message


def _signed(key: Any, header: dict[str, Any], cluster: Cluster) -> str:
    good = cluster.token("router", "guardrails")
    claims = jwt.decode(good, cluster.keys[0]).claims
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def _unsigned(cluster: Cluster, **header: Any) -> str:
    """A valid token's claims with another header."""
    made = urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{made}.{cluster.token('router', 'guardrails').split('.')[1]}"


def _shared(cluster: Cluster, text: str) -> str:
    """A token signed with the cluster's public key as a shared secret."""
    mark = hmac.digest(cluster.keys[0].as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(mark).decode().rstrip('=')}"


def test_a_token_that_the_cluster_has_not_signed_is_refused(cluster: Cluster) -> None:
    kid = cluster.keys[0].kid
    forged = [
        _signed(jwk.RSAKey.generate_key(2048), {"alg": "RS256", "kid": kid}, cluster),
        _signed(jwk.RSAKey.generate_key(2048), {"alg": "RS256", "kid": "another"}, cluster),
        _shared(cluster, _unsigned(cluster, alg="HS256", kid=kid)),
        _unsigned(cluster, alg="none", kid=kid) + ".",
        cluster.token("router", "guardrails").rpartition(".")[0] + ".",
    ]
    for token in forged:
        assert refusal(cluster, token)[0] is grpc.StatusCode.UNAUTHENTICATED


def callers(cluster: Cluster, again_s: float = 0.0) -> Callers:
    return Callers("guardrails", [ROUTER], Issuer(cluster.url, cluster.folder, again_s))


def admitted(checking: Callers, token: str) -> int:
    """Status of the refusal; 200 if the token is admitted."""

    async def ask() -> int:
        try:
            await checking.admit(token)
        except ApiError as error:
            return error.status
        return 200

    return asyncio.run(ask())


def test_all_callers_are_refused_before_the_keys_are_fetched(own: Cluster) -> None:
    checking = callers(own)
    assert admitted(checking, own.token("router", "guardrails")) == 503
    assert "not fetched yet" in (asyncio.run(checking.check()) or "")


def test_without_an_issuer_nothing_listens(own: Cluster) -> None:
    async def run() -> None:
        made = ServiceSettings(name="guardrails", rpc_port=0, host="127.0.0.1", issuer="", callers=(ROUTER,))
        server = rpc.Server(made)
        running = asyncio.create_task(server.run())
        await asyncio.sleep(0.1)
        assert server.port == 0 and await server.check() is not None
        running.cancel()

    asyncio.run(run())


def test_an_issuer_without_tls_is_refused(own: Cluster) -> None:
    plain = Issuer(own.url.replace("https", "http"), own.folder)
    assert asyncio.run(plain.renew()) is False and plain.keys is None


def test_an_issuer_with_an_untrusted_certificate_is_refused(own: Cluster, cluster: Cluster) -> None:
    (own.folder / "ca.crt").write_bytes((cluster.folder / "ca.crt").read_bytes())
    issuer = Issuer(own.url, own.folder)
    assert asyncio.run(issuer.renew()) is False and issuer.keys is None


def test_an_api_server_that_is_late_is_waited_for(own: Cluster) -> None:
    own.status = 503

    async def run() -> None:
        issuer = Issuer(own.url, own.folder)
        running = asyncio.create_task(issuer.run())
        while not own.asked:
            await asyncio.sleep(0.01)
        assert issuer.keys is None
        own.status = 200
        await asyncio.wait_for(issuer.fetched.wait(), 10)
        running.cancel()

    asyncio.run(run())


def test_keys_outlive_an_outage_of_the_api_server(own: Cluster) -> None:
    checking = callers(own)
    assert asyncio.run(checking._issuer.renew())
    own.stop()
    assert not asyncio.run(checking._issuer.renew())
    assert admitted(checking, own.token("router", "guardrails")) == 200
    assert asyncio.run(checking.check()) is None


def test_a_new_key_of_the_cluster_is_fetched_when_a_token_uses_it(own: Cluster) -> None:
    checking = callers(own)
    assert asyncio.run(checking._issuer.renew())
    before = own.token("router", "guardrails")
    assert admitted(checking, before) == 200
    own.rotate()
    assert admitted(checking, own.token("router", "guardrails")) == 200
    assert not checking.known(before), "its key is no longer the cluster's"
    assert admitted(checking, before) == 401


def test_tokens_with_unknown_keys_do_not_flood_the_api_server(own: Cluster) -> None:
    checking = callers(own, again_s=60)
    assert asyncio.run(checking._issuer.renew())
    asked = own.asked
    for _ in range(20):
        forged = _signed(jwk.RSAKey.generate_key(2048), {"alg": "RS256", "kid": "another"}, own)
        assert admitted(checking, forged) == 401
    assert own.asked == asked


def test_a_token_is_verified_once(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    checking = callers(own)
    assert asyncio.run(checking._issuer.renew())
    token = own.token("router", "guardrails")
    assert not checking.known(token)
    assert admitted(checking, token) == 200
    monkeypatch.setattr(checking, "_read", lambda _: pytest.fail("verified again"))
    assert checking.known(token) and admitted(checking, token) == 200


def test_a_cached_verification_expires_with_the_token(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    checking = callers(own)
    assert asyncio.run(checking._issuer.renew())
    token = own.token("router", "guardrails", lasts_s=100)
    assert admitted(checking, token) == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 200)
    assert not checking.known(token) and admitted(checking, token) == 401


def test_the_token_cache_is_bounded(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 3)
    checking = callers(own)
    assert asyncio.run(checking._issuer.renew())
    for _ in range(6):
        assert admitted(checking, own.token("router", "guardrails")) == 200
    assert len(checking._admitted) == 3


PIECES = st.text(st.characters(codec="ascii"), max_size=40)
TEXTS = st.one_of(st.text(), st.lists(PIECES, min_size=3, max_size=5).map(".".join))


@pytest.fixture(scope="module")
def learnt(cluster: Cluster) -> Callers:
    """Callers with the cluster's keys."""
    made = callers(cluster, again_s=3600)
    assert asyncio.run(made._issuer.renew())
    return made


@given(TEXTS)
def test_no_text_lets_anybody_in(learnt: Callers, text: str) -> None:
    assert admitted(learnt, text) == 401


HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"]), st.none() | st.text() | st.lists(st.text())
)


@given(HEADERS)
def test_no_header_lets_anybody_in(learnt: Callers, cluster: Cluster, header: dict[str, Any]) -> None:
    signature = cluster.token("router", "guardrails").rpartition(".")[2]
    assert admitted(learnt, f"{_unsigned(cluster, **header)}.{signature}") == 401


def test_a_renewed_token_is_sent_without_a_restart(own: Cluster, tmp_path: Path) -> None:
    folder = own.project(tmp_path / "tokens", "router", "guardrails")
    tokens = Tokens(folder, fresh_s=0.05)
    ((name, first),) = tokens.metadata("guardrails")
    own.project(folder, "router", "guardrails")
    assert (name, tokens.metadata("guardrails")) == (identity.HEADER, ((identity.HEADER, first),)), "read recently"
    time.sleep(0.06)
    assert tokens.metadata("guardrails") != ((identity.HEADER, first),)


def test_a_service_that_has_no_token_for_another_sends_none(tmp_path: Path) -> None:
    assert Tokens(tmp_path).metadata("guardrails") == ()


def test_a_stub_of_the_kit_sends_the_token(cluster: Cluster) -> None:
    async def talk(server: rpc.Server, _: Any, __: Looking) -> None:
        client = rpc.Client("guardrails", f"127.0.0.1:{server.port}", service.GuardrailsServiceStub)
        await client.stub.Check(messages.CheckRequest(texts=["x"]), timeout=5, metadata=rpc.carried("00-a-b-01"))
        await client.close()

    assert called(talk, cluster).asked == 1
