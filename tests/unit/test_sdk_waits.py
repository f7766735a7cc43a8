"""The language host waits for a program's outputs at once, and sends debug messages only if they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pulumi import log
from pulumi.runtime import stack
from pulumi.runtime.settings import SETTINGS

from local.providers import sdk_waits

COUNT = 200


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of the waits of a program whose outputs are ready one after the other."""
    monkeypatch.setattr(stack, "asyncio", asyncio)
    monkeypatch.setattr(log, "debug", log.debug)
    sizes: list[int] = []
    real = asyncio.wait

    async def wait(tasks: Any, **options: Any) -> Any:
        sizes.append(len(tasks))
        return await real(tasks, **options)

    monkeypatch.setattr(asyncio, "wait", wait)
    kept = set(SETTINGS.outputs)
    SETTINGS.outputs.clear()
    yield sizes
    SETTINGS.outputs.clear()
    SETTINGS.outputs.update(kept)


async def _ready(after: int, failing: int = -1) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    if after == failing:
        raise ValueError("a bad output")


def _run(failing: int = -1) -> None:
    async def program() -> None:
        SETTINGS.outputs.update(asyncio.ensure_future(_ready(number, failing)) for number in range(COUNT))
        await stack.wait_for_rpcs()

    asyncio.run(program())


def test_all_outputs_are_waited_for_at_once(waits: list[int]) -> None:
    _run()
    assert len(waits) > COUNT / 4, "the SDK itself waits again after each output"
    waits.clear()
    sdk_waits.shorten()
    _run()
    assert waits == [COUNT]


def test_an_output_that_fails_still_ends_the_program(waits: list[int]) -> None:
    sdk_waits.shorten()
    with pytest.raises(ValueError, match="a bad output"):
        _run(failing=COUNT // 2)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("pulumi up --debug", True),
        ("pulumi up -d --yes", True),
        ("pulumi up -yd", True),
        ("pulumi preview --debug=true", True),
        ("pulumi preview --debug=false", False),
        ("pulumi preview --stack dev --diff", False),
        ("", False),
    ],
)
def test_debug_messages_are_sent_only_if_the_command_asks_for_them(command: str, expected: bool) -> None:
    assert sdk_waits.debugging(command.split()) is expected
