"""Alerts: rules of a real Prometheus with their state and runbook, for operators."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_images.portal.tests.alone import page
from service_images.portal.tests.faulty import MIB, faulty
from service_images.portal.tests.running_prometheus import running
from service_images.portal.tests.test_bad_cases import ATTACK, _harmless

pytestmark = pytest.mark.xdist_group("promtool")
OWN = [
    {"alert": "AlwaysHere", "expr": "vector(1)", "labels": {"severity": "page"},
     "annotations": {"summary": ATTACK, "cause": ATTACK, "checks": "forge status", "fix": "nothing"}},
    {"alert": "NotYet", "expr": "vector(1)", "for": "1h", "labels": {"severity": "ticket"},
     "annotations": {"summary": "value {{ $value }}"}},
]  # fmt: skip


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server with the platform's rules and two more: (URL, process)."""
    with running(tmp_path, OWN) as found:
        yield found


def shown(url: str, *scopes: str) -> str:
    """The page, for a key with these scopes."""
    return page("/portal/alerts", *scopes, prometheus_url=url)


def test_rules_are_shown_with_state_and_runbook(prometheus: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = prometheus
    found = shown(url, "admin")
    _harmless(found)
    assert "1 firing" in found and "1 pending" in found and "value 1" in found
    names = [part.split('"')[0] for part in found.split('<article class="card" aria-label="')[1:]]
    assert names[:2] == ["AlwaysHere", "NotYet"] and "GuardrailsUnavailable" in names
    assert "forge logs" in found and "What to do about GuardrailsUnavailable" in found
    assert "for operators" in shown(url, "billing") and "AlwaysHere" not in shown(url, "billing")
    process.kill()
    process.wait()
    found = shown(url, "admin")
    assert "Prometheus does not answer" in found and "forge alerts" in found


def test_pages_of_operators_are_linked_for_operators_only() -> None:
    links = [f'href="/portal/{name}"' for name in ("dashboards", "alerts", "evidence")]
    found = page("/portal/now", "admin")
    assert [link for link in links if link not in found] == []
    found = page("/portal/now", "billing", "manage")
    assert [link for link in links if link in found] == [] and 'href="/portal/map"' in found


def test_without_prometheus_the_page_says_how_to_switch_it_on() -> None:
    found = shown("", "admin")
    assert "prometheus: {}" in found and "does not run a Prometheus" in found


@pytest.mark.parametrize("body", [b"[]", b"no JSON", b'{"data": {"groups": [{}]}}', b'{"data": {"groups": 7}}'])
def test_an_answer_of_another_form_is_a_problem_of_the_page(body: bytes) -> None:
    with faulty() as server:
        server.body = body
        assert "answer has an unknown form" in shown(server.url, "admin")
        server.body, server.times = MIB, 9
        assert "sent more than 4 MiB" in shown(server.url, "admin")
