"""The start of Guardrails, and the files that its image contains."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from pathlib import Path

import hyperscan
import pytest
from guardrails import hints
from guardrails.checking import Checker
from guardrails.guard import Guard
from guardrails.hints import Hints, save
from guardrails.policy import Compiled
from guardrails.scanner import Scanner
from guardrails.stream import Stream
from kit.guard_policy import Action, Direction, Policy

SOURCES = Path(__file__).resolve().parents[2]
EXPRESSIONS = ("needle", r"\d{4}", "(?P<v>pin)")
TEXT = b"a needle, a pin, and 1234"
STRICT = Compiled(Policy.model_validate({"packs": ["gdpr"]}))
NPI = "her NPI is 1234567893"


def test_the_images_database_is_read_and_not_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(EXPRESSIONS, tmp_path)
    monkeypatch.setattr(hints, "BUILT", tmp_path)
    monkeypatch.setattr(hints, "_compiled", None)  # a call would fail
    assert sorted(Hints(EXPRESSIONS).hits(TEXT)) == [0, 1, 2]


def test_expressions_in_several_databases_are_numbered_throughout() -> None:
    parts = Hints(["needle", "haystack"], [], [r"\d{4}"], ["pin"])
    assert sorted(parts.hits(TEXT)) == [0, 2, 3] == sorted(parts.twin().hits(TEXT))


@pytest.mark.parametrize("spoilt", [slice(0), slice(-5), slice(4), slice(12)])
def test_a_database_that_does_not_fit_is_compiled_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: slice
) -> None:
    file = save(EXPRESSIONS, tmp_path)
    whole = file.read_bytes()
    # A truncated file, or one with another header of eight bytes.
    file.write_bytes(whole[spoilt] if spoilt.stop in (0, -5) else whole[spoilt] + b"\1" * 8 + whole[spoilt.stop + 8 :])
    monkeypatch.setattr(hints, "BUILT", tmp_path)
    assert sorted(Hints(EXPRESSIONS).hits(TEXT)) == [0, 1, 2]


def test_a_database_of_other_expressions_or_another_hyperscan_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {save(EXPRESSIONS, tmp_path).name, save((*EXPRESSIONS, "x"), tmp_path).name}
    monkeypatch.setattr(hyperscan, "__version__", "another")
    assert len(names | {save(EXPRESSIONS, tmp_path).name}) == 3


def test_it_is_ready_before_presidio_is_loaded() -> None:
    program = (
        "import sys; from guardrails.__main__ import GuardrailsSettings, create;"
        "create(GuardrailsSettings()); assert not {'presidio_analyzer', 'spacy'} & set(sys.modules)"
    )
    path = ":".join(str(SOURCES / part / "src") for part in ("kit", "guardrails"))
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": path})


def test_checks_that_need_presidio_wait_until_it_is_loaded() -> None:
    async def talk() -> list[Action]:
        guard = Guard(Scanner())
        guard.load_later()
        checker = Checker(guard)
        stream = Stream(guard, STRICT, Direction.OUTPUT)
        early = [
            asyncio.create_task(checker.check("a", STRICT, Direction.INPUT, [NPI])),
            asyncio.create_task(checker.at_once(functools.partial(stream.feed, NPI, last=True))),
        ]
        # Checks without Presidio continue meanwhile.
        assert (await checker.check("a", STRICT, Direction.INPUT, ["ann@example.com"])).action is Action.REDACT
        await asyncio.sleep(0)
        assert not any(task.done() for task in early)
        running = asyncio.create_task(checker.run())
        verdict, (_, reply) = await asyncio.gather(*early)
        assert [finding.kind for finding in reply] == ["us_npi"]
        running.cancel()
        await checker.close()
        return [verdict.action, stream.action]

    assert asyncio.run(talk()) == [Action.REDACT, Action.REDACT]
