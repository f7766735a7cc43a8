"""Known heads are not parsed again, and are interpreted as a parser does."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from router.heads import KEPT, LONGEST, Heads

from .conftest import Running, Target

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: %d\r\n%s\r\n"
FAKE = HEAD.decode() % (2, "") + "{}"
texts = st.text(max_size=40) | st.sampled_from([FAKE, "\r\n\r\n", "\n\n", FAKE * 2])


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Running, Target]]:
    target = Target("a")
    router = Running({"routes": [{"model": "m", "targets": [{"upstream": target.url}]}]})
    yield router, target
    router.stop()
    target.stop()


def asked(text: str, extra: bytes = b"") -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    return HEAD % (len(body), extra) + body


def answers(router: Running, pieces: list[bytes], count: int) -> list[int]:
    """Statuses of the answers on one connection."""
    host, _, port = router.url.removeprefix("http://").rpartition(":")
    found: list[int] = []
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        for piece in pieces:
            connection.sendall(piece)
        for _ in range(count):
            found.append(int(reader.readline().split()[1]))
            length = 0
            while (line := reader.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name == b"content-length" else length
            reader.read(length)
    return found


def cut(data: bytes, places: list[float]) -> list[bytes]:
    ends = sorted({int(len(data) * place) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True) if a < b]


@given(st.lists(texts, min_size=1, max_size=4), st.lists(st.floats(0, 1), max_size=4), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_requests_to_targets_do_not_depend_on_the_framing_of_the_clients(
    running: tuple[Running, Target], said: list[str], places: list[float], whole: bool
) -> None:
    router, target = running
    requests = [asked(text) for text in (*said, *said)]
    pieces = requests if whole else cut(b"".join(requests), places)
    target.seen.clear()
    assert answers(router, pieces, len(requests)) == [200] * len(requests)
    assert [body["messages"][0]["content"] for body in target.seen] == [*said, *said]


def test_a_head_that_came_before_is_not_parsed_again(running: tuple[Running, Target]) -> None:
    router, _ = running
    router.core.heads = Heads()
    request = asked("once and again", b"x-note: mine\r\n")
    assert answers(router, [request], 1) == [200]
    assert router.core.heads.read(request) is not None
    assert answers(router, [request], 1) == [200]


@pytest.mark.parametrize("name", [b"x-request-id", b"traceparent", b"idempotency-key", b"X-Request-ID"])
def test_varying_headers_are_read_from_each_request(running: tuple[Running, Target], name: bytes) -> None:
    router, _ = running
    router.core.heads = Heads()
    assert answers(router, [asked("hello", name + b": first\r\n")], 1) == [200]
    other = asked("a longer hello", name + b": second.one\r\n")
    found = router.core.heads.read(other)
    assert found is not None and found[1] is not None
    assert found[1] == {name.lower(): b"second.one", b"content-length": b"%d" % len(found[2])}
    assert found[2] == other[-len(found[2]) :]


@pytest.mark.parametrize(
    "written",
    [
        b"x-request-id:second",
        b"x-request-id: se cond",
        b"x-request-id: second ",
        b"x-request-id:  second",
        b"x-request-id: \x01",
        b"x-request-id: ",
        b"x-request-id: second\r\nx-request-id: third",
        b"x-request-id: second\r\n folded",
        b"x-request-id: second\r\nx-more: 1",
        b"x-other-id: second",
    ],
)
def test_heads_in_another_notation_are_parsed(running: tuple[Running, Target], written: bytes) -> None:
    router, _ = running
    router.core.heads = Heads()
    assert answers(router, [asked("hello", b"x-request-id: first\r\n")], 1) == [200]
    assert router.core.heads.read(asked("hello", written + b"\r\n")) is None


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_an_invalid_length_is_left_to_the_parser(length: bytes) -> None:
    heads: Heads[str] = Heads()
    heads.keep(b"A\r\ncontent-length: 4\r\n\r\nbody", b"4", "x")
    found = heads.read(b"A\r\ncontent-length: " + length + b"\r\n\r\nbody")
    assert (found is not None) == (length.isdigit() and len(length) <= 9 and int(length) == 4)


def test_the_id_that_a_request_brings_is_the_one_of_its_answer(running: tuple[Running, Target]) -> None:
    router, _ = running
    reported = [router.ask(headers={"x-request-id": f"mine-{n}"}).headers["x-request-id"] for n in range(3)]
    assert reported == ["mine-0", "mine-1", "mine-2"]


@pytest.mark.parametrize("extra", [b"connection: close\r\n", b"x-a: 1\r\nx-a: 2\r\n"])
def test_a_head_with_other_headers_is_not_cached(running: tuple[Running, Target], extra: bytes) -> None:
    router, _ = running
    router.core.heads = Heads()
    request = asked("hello", extra)
    assert answers(router, [request], 1) == [200]
    assert router.core.heads.read(request) is None


@pytest.mark.parametrize(
    ("message", "length"),
    [
        (b"A\r\n\r\nbody", b"3"),
        (b"A\r\n\r\nbody", b"5"),
        (b"A\r\n\r\nbody", b"-4"),
        (b"A\r\n\r\nbody", b""),
        (b"A\n\nB\r\n\r\nbody", b"4"),
        (b"A\r\nx: 1\r\n 2\r\n\r\nbody", b"4"),
        (b"A\r\nx: 1\r\n\t2\r\n\r\nbody", b"4"),
        (b"A" * LONGEST + b"\r\n\r\nbody", b"4"),
        (b"no end", b"0"),
    ],
)
def test_only_a_head_with_the_declared_length_is_cached(message: bytes, length: bytes) -> None:
    heads: Heads[str] = Heads()
    heads.keep(message, length, "x")
    assert heads.read(message) is None


def test_the_cache_of_heads_is_bounded() -> None:
    heads: Heads[int] = Heads()
    messages = [b"A%d\r\n\r\n" % number for number in range(KEPT + 10)]
    for number, message in enumerate(messages):
        heads.keep(message, b"0", number)
    known = [heads.read(message) for message in messages]
    assert known[:10] == [None] * 10
    assert known[10:] == [(number, None, b"") for number in range(10, KEPT + 10)]


def test_an_answer_with_a_known_head_is_read_by_its_length(
    targets: Callable[[int], list[Target]],
) -> None:
    (target,) = targets(1)
    router = Running({"routes": [{"model": "m", "targets": [{"upstream": target.url}]}]})
    try:
        found: list[Any] = []
        for words in (["a"], ["b"], ["c" * 100], ["d"], ["e"]):
            target.words = words
            found.append(router.ask().json()["choices"][0]["message"]["content"])
        assert found == ["a", "b", "c" * 100, "d", "e"]
        target.status = 500
        assert router.ask().status_code == 502
    finally:
        router.stop()
