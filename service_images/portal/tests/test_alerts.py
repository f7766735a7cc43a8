"""Alerts: rules of a real Prometheus with their state and runbook, for operators."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from portal.__main__ import create
from portal.sessions import COOKIE, Sessions
from portal.settings import PortalSettings
from pydantic import SecretStr
from starlette.responses import Response
from starlette.testclient import TestClient

from service_images.portal.tests.running_platform import SECRET
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
    about: dict[str, Any] = {"tenant": "acme", "key": "k", "user": "", "scopes": list(scopes)}
    entry = Response()
    Sessions(SECRET).begin(entry, "cf-secret", about)
    cookie = entry.headers["set-cookie"].split(";")[0]
    assert cookie.startswith(COOKIE)
    settings = PortalSettings(session_secret=SecretStr(SECRET), prometheus_url=url)
    with TestClient(create(settings)) as client:
        answer = client.get("/portal/alerts", headers={"cookie": cookie})
    assert answer.status_code == 200 and "script-src 'self'" in answer.headers["content-security-policy"]
    return answer.text


def test_rules_are_shown_with_state_and_runbook(prometheus: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = prometheus
    page = shown(url, "admin")
    _harmless(page)
    assert "1 firing" in page and "1 pending" in page and "value 1" in page
    names = [part.split('"')[0] for part in page.split('<article class="card" aria-label="')[1:]]
    assert names[:2] == ["AlwaysHere", "NotYet"] and "GuardrailsUnavailable" in names
    assert "forge logs" in page and "What to do about GuardrailsUnavailable" in page
    assert "for operators" in shown(url, "billing") and "AlwaysHere" not in shown(url, "billing")
    process.kill()
    process.wait()
    page = shown(url, "admin")
    assert "Prometheus does not answer" in page and "forge alerts" in page


def test_without_prometheus_the_page_says_how_to_switch_it_on() -> None:
    page = shown("", "admin")
    assert "prometheus: {}" in page and "does not run a Prometheus" in page
