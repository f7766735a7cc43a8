"""`forge login` with answers of a provider and of User that a test chooses; a drill uses real ones."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import login
from local.errors import LocalError

PENDING = (400, {"error": "authorization_pending"})
STARTED = (
    200,
    {"device_code": "d", "user_code": "U", "verification_uri": "https://x", "expires_in": 600, "interval": 5},
)
Answers = dict[str, list[tuple[int, dict[str, Any]]]]


def tokens(number: int) -> tuple[int, dict[str, Any]]:
    return 200, {"access_token": f"a{number}", "refresh_token": f"r{number}"}


def made(key: str, minutes: int = 15) -> tuple[int, dict[str, Any]]:
    return 200, {"tenant": "acme", "key": key, "expires": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()}


class Platform:
    """Answers by the last part of the path, one after the other; records the forms."""

    def __init__(self, **answers: list[tuple[int, dict[str, Any]]]) -> None:
        self.answers, self.asked = answers, list[tuple[str, dict[str, str]]]()
        self.client = httpx.Client(base_url="https://gateway", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        name = "exchange" if request.url.path == "/v1/login/token" else request.url.path.rpartition("/")[2]
        form = dict(httpx.QueryParams(request.content.decode())) if name != "exchange" else {}
        self.asked.append((name, form))
        status, body = self.answers[name].pop(0)
        return httpx.Response(status, json=body)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))


def log_in(platform: Platform, pause: Callable[[float], None] = lambda _: None) -> login.Session:
    return login.log_in(platform.client, "local", "acme", lambda *_: None, pause)


def test_it_waits_for_the_person_as_long_as_the_provider_says() -> None:
    waits: list[float] = []
    slow = (400, {"error": "slow_down"})
    platform = Platform(device=[STARTED], token=[PENDING, slow, PENDING, tokens(1)], exchange=[made("k1")])
    assert log_in(platform, waits.append).key == "k1"
    assert waits == [5, 5, 10, 10]
    assert stat.S_IMODE(login.file("local").stat().st_mode) == 0o600
    verifiers = {form["code_verifier"] for name, form in platform.asked if name == "token"}
    assert len(verifiers) == 1


@pytest.mark.parametrize("error", ["access_denied", "expired_token"])
def test_a_refused_login_is_reported(error: str) -> None:
    platform = Platform(device=[STARTED], token=[PENDING, (400, {"error": error})])
    with pytest.raises(LocalError, match="the login has failed"):
        log_in(platform)
    assert not login.file("local").exists()


def test_a_person_without_an_invitation_stays_logged_out() -> None:
    refusal = (403, {"error": {"message": "There is no invitation for you."}})
    platform = Platform(device=[STARTED], token=[tokens(1)], exchange=[refusal])
    with pytest.raises(LocalError) as raised:
        log_in(platform)
    assert raised.value.reason == "There is no invitation for you."
    assert login.key(platform.client, "local") == ""


def test_a_key_is_replaced_shortly_before_its_end() -> None:
    platform = Platform(
        device=[STARTED], token=[tokens(1), tokens(2), tokens(3)], exchange=[made("k1", 0), made("k2", 15)]
    )
    log_in(platform)
    assert [login.key(platform.client, "local") for _ in range(2)] == ["k2", "k2"]
    assert platform.asked[-2][1]["refresh_token"] == "r1"


def test_a_new_refresh_token_is_kept_even_if_the_exchange_fails() -> None:
    away = (503, {"error": {"message": "later"}})
    platform = Platform(
        device=[STARTED], token=[tokens(1), tokens(2), tokens(3)], exchange=[made("k1", 0), away, made("k3")]
    )
    log_in(platform)
    with pytest.raises(LocalError, match="refuses the login"):
        login.key(platform.client, "local")
    assert login.key(platform.client, "local") == "k3"
    assert [form["refresh_token"] for _, form in platform.asked if "refresh_token" in form] == ["r1", "r2"]


def test_an_ended_session_is_reported_and_the_way_on_is_named() -> None:
    platform = Platform(
        device=[STARTED],
        token=[tokens(1), (400, {"error": "invalid_grant"})],
        exchange=[made("k1", 0)],
        logout=[(204, {})],
    )
    log_in(platform)
    with pytest.raises(LocalError, match="your session has ended") as raised:
        login.key(platform.client, "local")
    assert "forge logout" in str(raised.value.fix)
    assert login.log_out(platform.client, "local")
    assert login.key(platform.client, "local") == ""
