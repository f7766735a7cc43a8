"""The gates of a promotion, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cli import promotion, upgrade
from cli.upgrade import Finding, Verdict
from components import catalogue
from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.transitions import Risk
from local.errors import LocalError
from tests.stack_files import stack_file

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def config() -> PlatformConfig:
    return parse(stack_file("dev"))


def deployed(**changed: Any) -> dict[str, Any]:
    return {"config": config().model_dump(mode="json", by_alias=True), "versions": catalogue.versions(), **changed}


def test_the_chain_leads_to_prod() -> None:
    assert [promotion.next_environment(e) for e in ("dev", "staging")] == ["staging", "prod"]


@pytest.mark.parametrize("last", ["prod", "local"])
def test_nothing_comes_after_the_last_stage(last: str) -> None:
    with pytest.raises(LocalError, match=f'no stage after that of "{last}"'):
        promotion.next_environment(last)


def test_an_environment_is_promoted_to_one_of_the_next_stage_by_its_name() -> None:
    assert promotion.next_environment("dev", "staging") == "staging"
    with pytest.raises(LocalError, match="cannot be promoted to prod"):
        promotion.next_environment("dev", "prod")


def test_an_undeployed_version_is_not_promoted() -> None:
    assert [g.passed for g in promotion.definition_gates("dev", None, config())] == [False]


def test_the_same_definition_and_versions_pass() -> None:
    assert all(g.passed for g in promotion.definition_gates("dev", deployed(), config()))


def test_other_versions_than_in_the_checkout_are_refused() -> None:
    versions = {**catalogue.versions(), "image router": "9.9.9"}
    gates = promotion.definition_gates("dev", deployed(versions=versions), config())
    assert [(g.name, g.found) for g in gates if not g.passed] == [("same versions", "differ: image router")]


def test_another_configuration_than_in_the_checkout_is_refused() -> None:
    other = config().model_dump(mode="json", by_alias=True)
    other["gateway"]["replicas"] = 7
    gates = promotion.definition_gates("dev", deployed(config=other), config())
    assert [g.found for g in gates if not g.passed] == ["differ: gateway.replicas"]


def entry(result: str, end: str, kind: str = "update") -> dict[str, Any]:
    return {"kind": kind, "result": result, "endTime": end}


@pytest.mark.parametrize(
    ("history", "passed"),
    [
        ([], False),
        ([entry("succeeded", "2026-11-24T10:00:00.000Z")], True),
        ([entry("succeeded", "2026-11-24T11:30:00.000Z")], False),
        ([entry("failed", "2026-11-24T10:00:00.000Z"), entry("succeeded", "2026-11-24T09:00:00.000Z")], False),
        (
            [entry("failed", "2026-11-24T11:00:00.000Z", "refresh"), entry("succeeded", "2026-11-24T09:00:00.000Z")],
            True,
        ),
    ],
)
def test_an_update_must_have_succeeded_and_run_for_a_while(history: list[dict[str, Any]], passed: bool) -> None:
    assert promotion.soak_gate("dev", history, 60, NOW).passed is passed


def test_an_unhealthy_part_shuts_the_gate() -> None:
    assert not promotion.health_gate("dev", ["router"]).passed
    assert promotion.health_gate("dev", []).passed


@pytest.mark.parametrize(
    ("risk", "accepted", "passed"),
    [
        (Risk.SAFE, False, True),
        (Risk.MANUAL, False, False),
        (Risk.MANUAL, True, True),
        (Risk.BLOCKED, True, False),
    ],
)
def test_the_target_must_be_able_to_take_it(risk: Risk, accepted: bool, passed: bool) -> None:
    verdict: upgrade.Verdict = Verdict("staging", True, [Finding("gateway", risk, "what")])
    assert promotion.upgrade_gate(verdict, accepted).passed is passed
