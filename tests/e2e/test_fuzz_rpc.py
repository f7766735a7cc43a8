"""Every gRPC method is fuzzed with the identity of a service that may call it; a working tenant is not affected.

FUZZ_RPC_MINUTES is how long it takes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import httpx
import hypothesis
import pytest
from google.protobuf import descriptor as pb
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from hypothesis import strategies as st
from kubernetes import client

from components.services.record import RPC_PORT
from components.services.registry import SERVICES, rpc_callers
from local import paths
from tests.e2e.bystander import FUZZING, NAMESPACE, Bystander, bystander, restarts
from tests.e2e.test_services import Tenant, tenant_of_own

MINUTES = float(os.environ.get("FUZZ_RPC_MINUTES", "1"))
pytestmark = [pytest.mark.drill("fuzz"), pytest.mark.timeout(MINUTES * 60 + 600)]
EXAMPLES = 25
"""Seconds per method."""
PATIENCE_S = 30
ODD = ("", "\x00", "a\x00b", "x" * 70_000, "[" * 3000, "9" * 400, "‮\ufffe", "%00", "../..", "a/b", "'; --", "{{ x }}")
TAKEN = {
    "label": "production",
    "model": "demo",
    "name": "kept",
    "object": "document:1",
    "relation": "viewer",
    "role": "user",
    "subject": "user:a",
    "type": "document",
}
"""Valid values by field name."""
JSON = (b"{}", b"[]", b'{"a": ' * 500, b'{"a": 1e999}', b'{"a": "\\ud800"}', b'{"a": 1, "a": 2}', b"\xff", b"null")
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE}
FAULTS |= {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, pb.MethodDescriptor]]:
    """Every method, with its service."""
    protos = paths.PROJECT / "service_images/kit/protos"
    out = tmp_path_factory.mktemp("protos") / "all"
    files = sorted(str(file.relative_to(protos)) for file in protos.rglob("*.proto"))
    assert protoc.main(["protoc", f"-I{protos}", f"--descriptor_set_out={out}", *files]) == 0
    pool = descriptor_pool.DescriptorPool()
    found: list[tuple[str, pb.MethodDescriptor]] = []
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
        services = pool.FindFileByName(file.name).services_by_name.values()
        found += [(file.package.split(".")[1], method) for service in services for method in service.methods]
    assert found
    return found


@pytest.fixture(scope="module", name="bystander")
def _bystander(operator: httpx.Client) -> Iterator[Bystander]:
    yield from bystander(operator)


@pytest.fixture(scope="module")
def attacker(operator: httpx.Client) -> Iterator[Tenant]:
    prompt = {"name": "kept", "prompt": "Hello", "labels": ["production"]}
    with tenant_of_own(operator) as made:
        made.http.post("/v1/prompts", json=prompt).raise_for_status()
        yield made


def _field(
    field: pb.FieldDescriptor, texts: st.SearchStrategy[str], taken: Mapping[str, str]
) -> st.SearchStrategy[Any]:
    """Strategy for one value of a field."""
    kind = pb.FieldDescriptor
    if field.type == kind.TYPE_MESSAGE:
        return _message(field.message_type, texts, taken)
    if field.type == kind.TYPE_STRING:
        usual = st.just(taken[field.name]) if field.name in taken else texts
        return st.integers(0, 4).flatmap(lambda number: texts if number == 0 else usual)
    if field.type == kind.TYPE_BYTES:
        return st.just(b"{}") | st.sampled_from(JSON) | st.binary(max_size=2000)
    if field.type == kind.TYPE_BOOL:
        return st.booleans()
    if field.type == kind.TYPE_UINT32:
        return st.integers(0, 2**32 - 1)
    if field.type == kind.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values]) | st.integers(-(2**31), 2**31 - 1)
    assert field.type == kind.TYPE_DOUBLE, f"{field.full_name}: this test makes no values of its type"
    return st.floats()


@st.composite
def _message(
    draw: st.DrawFn, descriptor: pb.Descriptor, texts: st.SearchStrategy[str], taken: Mapping[str, str]
) -> Any:
    """Strategy for a message, often with all of its fields, otherwise with some missing."""
    chosen = {draw(st.sampled_from([field.name for field in one.fields])) for one in descriptor.oneofs}
    left_out = draw(st.booleans())
    values: dict[str, Any] = {}
    for field in descriptor.fields:
        if (field.containing_oneof and field.name not in chosen) or (left_out and draw(st.booleans())):
            continue
        one = _field(field, texts, taken)
        few = st.lists(one, min_size=1, max_size=5)
        many = few | few | st.lists(one, max_size=5) | st.builds(lambda value: [value] * 3000, one)
        values[field.name] = draw(many if field.label == pb.FieldDescriptor.LABEL_REPEATED else one)
    return message_factory.GetMessageClass(descriptor)(**values)


class Caller:
    """A service that may call another one, with a tenant's key."""

    def __init__(self, api: client.ApiClient, callee: str, key: str) -> None:
        core: Any = client.CoreV1Api(api)
        account = rpc_callers(SERVICES[callee])[0]
        asked = {"spec": {"audiences": [callee], "expirationSeconds": 7200}}
        token = core.create_namespaced_service_account_token(account, NAMESPACE, asked).status.token
        pods = core.list_namespaced_pod(NAMESPACE, label_selector=f"app.kubernetes.io/name={callee}").items
        self._channel = grpc.insecure_channel(f"{pods[0].status.pod_ip}:{RPC_PORT}")
        self._metadata = (("x-service-token", token), ("authorization", f"Bearer {key}"))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def call(self, method: pb.MethodDescriptor, requests: list[bytes]) -> tuple[grpc.StatusCode, str]:
        """Status of a call with these messages."""
        assert method.containing_service is not None
        path = f"/{method.containing_service.full_name}/{method.name}"
        more: dict[str, Any] = {"metadata": self._metadata, "timeout": PATIENCE_S}
        try:
            if method.client_streaming:
                list(self._channel.stream_stream(path)(iter(requests), **more))
            else:
                self._channel.unary_unary(path)(requests[0], **more)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""  # pyright: ignore
        return grpc.StatusCode.OK, ""


def _turn(caller: Caller, method: pb.MethodDescriptor, foreign: Bystander, own: str, seed: int) -> list[Any]:
    """(sent messages, status) of some calls of a method."""
    taken = {**TAKEN, "tenant": own}
    texts = st.sampled_from([*taken.values(), *foreign.ids.values()]) | st.sampled_from(ODD) | st.text(max_size=200)
    requests = st.lists(
        _message(method.input_type, texts, taken).map(lambda m: m.SerializeToString()), min_size=1, max_size=4
    )
    spoiled = st.binary(min_size=1, max_size=200).map(lambda noise: [noise])
    ended: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(FUZZING, max_examples=EXAMPLES)
    @hypothesis.given(sent=requests | requests | requests | spoiled)
    def call(sent: list[bytes]) -> None:
        ended.append((sent, *caller.call(method, sent)))

    call()
    return ended


def test_no_grpc_message_breaks_a_service_or_affects_another_tenant(
    operator: httpx.Client,
    bystander: Bystander,
    attacker: Tenant,
    api: client.ApiClient,
    methods: list[tuple[str, pb.MethodDescriptor]],
) -> None:
    before, started = bystander.has(), restarts(api)
    callers = {name: Caller(api, name, attacker.key) for name, _ in methods}
    codes: Counter[str] = Counter()
    faults: list[Any] = []
    turn, end = 0, time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        for name, method in methods:
            for sent, code, details in _turn(callers[name], method, bystander, attacker.name, turn):
                codes[f"{method.full_name} {code.name}"] += 1
                if code in FAULTS:
                    faults.append((method.full_name, sent[0][:300], code, details))
        turn += 1
    for caller in callers.values():
        caller.close()
    print(f"{sum(codes.values())} calls: {dict(codes)}")
    assert faults == []
    answered = {name.split()[0] for name in codes if name.endswith(" OK")}
    assert answered == {method.full_name for _, method in methods}, "of the others nothing was tried but refusals"
    assert bystander.has() == before
    bystander.works(operator)
    assert restarts(api) == started


def test_a_question_about_another_tenants_relations_is_refused(
    bystander: Bystander, attacker: Tenant, api: client.ApiClient, methods: list[tuple[str, pb.MethodDescriptor]]
) -> None:
    caller = Caller(api, "user", attacker.key)
    asked = {"tenant": bystander.tenant.name, "relation": "viewer", "subject": "user:a"}
    ended: dict[str, Any] = {}
    for method in [method for name, method in methods if name == "user"]:
        other = {"object": "document:1"} if "object" in method.input_type.fields_by_name else {"type": "document"}
        question = message_factory.GetMessageClass(method.input_type)(**asked, **other)
        ended[method.name] = caller.call(method, [question.SerializeToString()])
    caller.close()
    assert {name: code for name, (code, _) in ended.items()} == dict.fromkeys(
        ("Check", "ListObjects"), grpc.StatusCode.NOT_FOUND
    ), ended
