"""Parts of the Portal on their own: sessions, forms, numbers, charts, set-ups, and texts in templates."""

from __future__ import annotations

import json
import re
import time
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from portal import charts, diagram, numbers, sessions, setups
from portal.ask import _price
from portal.gateway import Answer, Gateway, address
from portal.health import Health
from portal.sessions import Sessions
from portal.settings import PortalSettings
from portal.topology import Part, owner
from portal.view import PAGE_ROWS, Views, paged
from starlette.requests import Request
from starlette.responses import Response

SECRET = "a-secret-of-this-test-which-is-long-enough"
ATTACK = "<script>alert(1)</script>\"'"
ABOUT = {"tenant": "acme", "key": "k", "user": "", "scopes": ["billing"]}
PARTS = (
    Part(name="router", title="AI Router", prefixes=("/v1/",), document=True, asks=("user",)),
    Part(name="user", title="User", prefixes=("/v1/tenants", "/v1/self"), document=True, stores=("PostgreSQL",)),
)


def _cookie(answer: Response) -> str:
    found = re.search(rf"{sessions.COOKIE}=([^;]*)", answer.headers["set-cookie"])
    assert found is not None
    return found[1]


def test_a_session_is_found_by_its_cookie_and_by_no_other_secret() -> None:
    answer = Response()
    made = Sessions(SECRET).begin(answer, "cf-secret", ABOUT)
    cookie = _cookie(answer)
    assert Sessions(SECRET).find({sessions.COOKIE: cookie}) == made
    assert Sessions(SECRET[::-1]).find({sessions.COOKIE: cookie}) is None
    assert "cf-secret" not in cookie


def test_the_cookie_is_for_this_host_and_no_script() -> None:
    answer = Response()
    Sessions(SECRET).begin(answer, "cf-secret", ABOUT)
    flags = {flag.strip().lower() for flag in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "secure", "samesite=lax", "path=/"} <= flags
    assert not any(flag.startswith("domain") for flag in flags)


def test_a_session_ends_after_eight_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Response()
    kept = Sessions(SECRET)
    kept.begin(answer, "cf-secret", ABOUT)
    cookie = {sessions.COOKIE: _cookie(answer)}
    later = time.time() + sessions.LASTS_S
    monkeypatch.setattr(time, "time", lambda: later - 5)
    assert kept.find(cookie) is not None
    monkeypatch.setattr(time, "time", lambda: later + 5)
    assert kept.find(cookie) is None


@given(st.text(max_size=200))
def test_no_cookie_that_somebody_makes_up_is_a_session(cookie: str) -> None:
    assert Sessions(SECRET).find({sessions.COOKIE: cookie}) is None
    assert Sessions(SECRET).find({sessions.COOKIE: Fernet(Fernet.generate_key()).encrypt(b"{}").decode()}) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="SERVICE_SESSION_SECRET"):
        Sessions("short")


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0", "$0.00"), ("12.5", "$12.50"), ("1234567.891", "$1,234,567.89"), ("0.000012", "$0.000012"), (None, "–")],
)
def test_amounts_are_written_with_cents_or_more_precisely(value: object, shown: str) -> None:
    assert numbers.usd(value) == shown


def test_months_and_their_bounds() -> None:
    found = numbers.periods(datetime(2026, 2, 3, tzinfo=UTC).date())
    assert found[:3] == ["2026-02", "2026-01", "2025-12"] and len(found) == numbers.MONTHS
    assert numbers.bounds("2025-12") == ("2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z")
    assert len(numbers.days("2028-02")) == 29


def test_the_forecast_goes_on_as_so_far() -> None:
    half = datetime(2026, 11, 16, tzinfo=UTC)
    assert numbers.forecast(Decimal(30), half) == Decimal(60)
    first_minute = datetime(2026, 11, 1, 0, 1, tzinfo=UTC)
    assert numbers.forecast(Decimal(1), first_minute) == Decimal(720)


@given(st.lists(st.floats(min_value=0, max_value=1e12), min_size=1, max_size=40))
def test_the_bars_of_a_chart_stay_in_their_box(values: list[float]) -> None:
    made = charts.bars("x", "requests", [(f"2026-11-{n:02}", value) for n, value in enumerate(values)])
    for bar in made.bars:
        assert bar.x >= 0 and bar.x + bar.width <= charts.WIDTH + 1
        assert bar.y >= 0 and bar.y + bar.height <= made.base + 0.2


@given(st.integers(0, 500), st.integers(1, 1000))
def test_every_row_is_on_one_page(count: int, number: int) -> None:
    rows = list(range(count))
    found = paged(rows, number)
    assert len(found.rows) <= PAGE_ROWS and found.total == count
    assert [row for page in range(1, found.pages + 1) for row in paged(rows, page).rows] == rows


def test_the_price_of_the_tenant_and_the_model_counts_most() -> None:
    every = {"kind": "input", "per": 1, "begins": "2020-01-01T00:00:00Z"}
    prices = [
        {**every, "model": "*", "usd": "1"},
        {**every, "model": "demo", "usd": "2"},
        {**every, "model": "demo", "usd": "3", "begins": "2999-01-01T00:00:00Z"},
        {**every, "model": "*", "usd": "4", "tenant": "acme"},
    ]
    assert _price(prices[:1], "demo", "input") == 1
    assert _price(prices[:3], "demo", "input") == 2
    assert _price(prices, "demo", "input") == 4
    assert _price(prices, "demo", "output") is None


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_set_ups_stay_valid_with_any_model_name(model: str) -> None:
    made = {one.name: one.text for one in setups.setups("https://localhost", model, "cf-key")}
    for name in ("openai", "anthropic", "langchain"):
        compile(made[name], name, "exec")
    assert tomllib.loads(made["codex"])["model"] == model
    body = made["curl"].split("-d '")[1][:-1].replace("'\\''", "'")
    assert json.loads(body)["model"] == model


def test_a_path_has_quoted_names_and_only_given_values() -> None:
    assert address("/v1/prompts/{}/diff", "a/b c", a=1, b="", c=None) == "/v1/prompts/a%2Fb%20c/diff?a=1"


def test_the_owner_of_a_path_has_the_longest_prefix() -> None:
    assert owner(PARTS, "/v1/self") == PARTS[1]
    assert owner(PARTS, "/v1/selfish") == PARTS[0]
    assert owner(PARTS, "/other") is None


def _views() -> Views:
    settings = PortalSettings(parts=PARTS)
    return Views(settings, Gateway(settings), Sessions(SECRET))


def _request(path: str) -> Request:
    return Request({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""})


def test_the_name_and_the_text_of_a_file_are_text() -> None:
    files = Answer(
        "GET", "/v1/files", 200, {"data": [{"filename": ATTACK, "id": ATTACK, "bytes": 1, "purpose": ATTACK}]}
    )
    stores = Answer("GET", "/v1/vector_stores", 200, {"data": [{"id": ATTACK, "name": ATTACK}]})
    hit = {"filename": ATTACK, "score": 0.5, "content": [{"type": "text", "text": ATTACK}]}
    found = Answer("POST", "/v1/vector_stores/x/search", 200, {"data": [hit]})
    session = Sessions(SECRET).begin(Response(), "cf-secret", ABOUT)
    shown = _views().render(
        _request("/portal/knowledge"), "knowledge.html", session=session, files=files, rows=files.items(),
        stores=stores, following=ATTACK, after=ATTACK, chosen=ATTACK, found=found, question=ATTACK,
    )  # fmt: skip
    page = bytes(shown.body).decode()
    assert "<script>alert" not in page and page.count("&lt;script&gt;") >= 6


def test_no_template_switches_escaping_off_or_holds_a_script_or_a_style() -> None:
    folder = Path(diagram.__file__).with_name("templates")
    for file in folder.glob("*.html"):
        text = file.read_text()
        assert "|safe" not in text and "autoescape" not in text and "Markup" not in text, file.name
        assert not re.search(r"\son[a-z]+=|\sstyle=|<style|<script>|javascript:", text), file.name


def test_every_form_that_changes_something_has_the_sessions_token() -> None:
    folder = Path(diagram.__file__).with_name("templates")
    forms = [
        (file.name, form)
        for file in folder.glob("*.html")
        for form in re.findall(r'<form[^>]*method="post".*?</form>', file.read_text(), re.DOTALL)
    ]
    assert len(forms) > 8
    for name, form in forms:
        assert 'name="csrf"' in form or name == "sign-in.html", (name, form)


def test_the_map_has_a_box_for_each_service_and_store_and_a_line_for_each_use() -> None:
    drawing = diagram.drawn([Health(part, None) for part in PARTS])
    assert {box.title for box in drawing.boxes} == {"Gateway", "AI Router", "User", "PostgreSQL"}
    assert {line.title for line in drawing.lines} == {
        "Gateway to AI Router", "Gateway to User", "AI Router to User", "User to PostgreSQL",
    }  # fmt: skip
    places = [(box.x, box.y) for box in drawing.boxes]
    assert len(set(places)) == len(places)


def test_a_file_has_the_digest_of_its_content_in_its_address() -> None:
    files = _views().files
    address_of = files.address("portal.css")
    assert re.fullmatch(r"/portal/static/portal\.[0-9a-f]{12}\.css", address_of)
    assert files.answer(address_of.rsplit("/", 1)[1]).headers["cache-control"].endswith("immutable")
