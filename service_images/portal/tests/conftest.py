"""The Portal before a running platform, and a browser that keeps its cookies."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "portal" / "src")]

from service_images.conftest import running_nats, running_postgres  # noqa: E402
from service_images.portal.tests.running_platform import OPERATOR, Platform  # noqa: E402
from service_images.router.tests.conftest import Target, until  # noqa: E402

KNOWN_AT = ("/v1/models", "/v1/billing/prices", "/v1/audit/key", "/v1/prompts")
"""A path of each service that learns keys from User."""


class Browser:
    """A browser without JavaScript: it keeps cookies, and fills in the forms that it sees."""

    def __init__(self, client: httpx.Client) -> None:
        self.client, self.page = client, ""
        self.address = ""
        self.answer: httpx.Response = httpx.Response(0)

    def open(self, path: str) -> str:
        """Open a page, and follow redirects."""
        return self._take(self.client.get(path, follow_redirects=True))

    def send(self, action: str, **fields: str) -> str:
        """Send the form with this action of the page, with these fields filled in."""
        body = {**Forms(self.page).fields(action), **fields}
        headers = {"origin": str(self.client.base_url).rstrip("/")}
        return self._take(self.client.post(action, data=body, headers=headers, follow_redirects=True))

    def make_up(self, action: str, **fields: str) -> str:
        """Send what no form of the page sends, with this session's token."""
        token = Forms(self.page).fields("/portal/sign-out")["csrf"]
        headers = {"origin": str(self.client.base_url).rstrip("/")}
        return self._take(self.client.post(action, data={"csrf": token, **fields}, headers=headers))

    def _take(self, answer: httpx.Response) -> str:
        self.answer, self.page, self.address = answer, answer.text, answer.url.path
        return self.page

    def sign_in(self, key: str) -> str:
        """Sign in with a key, and show the first page."""
        self.open("/portal/sign-in")
        return self.send("/portal/sign-in", key=key)


class Forms(HTMLParser):
    """The forms of a page: values of their inputs by action."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._forms: dict[str, dict[str, str]] = {}
        self._now: dict[str, str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            # A page may have several forms with the same action, as a list of keys does: the first one counts.
            self._now = self._forms.setdefault(re.sub(r"#.*", "", found.get("action") or ""), {})
        elif tag == "input" and self._now is not None and found.get("name") and found.get("type") != "checkbox":
            self._now.setdefault(str(found["name"]), found.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._now = None

    def fields(self, action: str) -> dict[str, str]:
        """The fields of the form with this action."""
        assert action in self._forms, f"the page has no form for {action}, only {sorted(self._forms)}"
        return self._forms[action]


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The server of the model "demo"."""
    made = Target("demo")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, target: Target) -> Iterator[Platform]:
    """The platform for all tests of a worker."""
    with running_postgres() as postgres, running_nats(tmp_path_factory.mktemp("nats")) as nats:
        made = Platform(tmp_path_factory.mktemp("platform"), postgres, nats, ("user", "billing", "audit", "prompt"))
        with made.running([{"model": "demo", "upstream": target.url}], {}):
            yield made


@pytest.fixture
def operator(platform: Platform) -> Iterator[httpx.Client]:
    """The operator's program."""
    with platform.client(OPERATOR) as client:
        yield client


@pytest.fixture
def browser(platform: Platform) -> Iterator[Browser]:
    """A browser of somebody who has not signed in."""
    with platform.client() as client:
        yield Browser(client)


@pytest.fixture
def tenant(operator: httpx.Client) -> str:
    """A new tenant."""
    name = f"team-{uuid.uuid4().hex[:8]}"
    assert operator.post("/v1/tenants", json={"id": name, "name": "A team"}).status_code == 201
    return name


@pytest.fixture
def make_key(platform: Platform, operator: httpx.Client, tenant: str) -> Callable[..., str]:
    """Function that makes a key with scopes, and waits until all services know it; none: all scopes of a tenant."""

    def make(*scopes: str, name: str = "of a test", of: str = tenant) -> str:
        body = {"name": name, "scopes": list(scopes)} if scopes else {"name": name}
        made = operator.post(f"/v1/tenants/{of}/keys", json=body)
        assert made.status_code == 201, made.text
        key = made.json()["key"]
        with platform.client(key) as client:
            for path in KNOWN_AT:
                until(lambda path=path: client.get(path).status_code != 401)
        return key

    return make


@pytest.fixture
def member(browser: Browser, make_key: Callable[..., str]) -> Browser:
    """A browser of somebody of the tenant with all scopes of it."""
    browser.sign_in(make_key())
    assert browser.address == "/portal/mine", browser.page
    return browser


TRACE = "0af7651916cd43dd8448eb211c80319c"


def record(operator: httpx.Client, *events: dict[str, Any], audit: bool = True) -> None:
    """Store usage in Billing and Audit, as they read it from Kafka: Billing keeps what it uses."""
    from billing.api import UsageEvent
    from kit import kafka

    read = kafka.reader(UsageEvent)
    counted = [read(json.dumps(event).encode()) for event in events]
    operator.post("/v1/billing/usage", json=counted).raise_for_status()
    if audit:
        operator.post("/v1/audit/events", json=list(events)).raise_for_status()


def usage(
    tenant: str, model: str = "demo", user: str = "ann", read: int = 1000, written: int = 200, **more: Any
) -> dict[str, Any]:
    """A usage event of now. `more`: further fields of its data."""
    data = {"tenant": tenant, "model": model, "operation": "chat", "input_tokens": read, "output_tokens": written}
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "test",
        "type": "dev.cogniforge.usage.recorded.v1",
        "time": datetime.now(UTC).isoformat(),
        "subject": f"request/{more.get('request', '')}",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "data": {**data, "user": user, **more},
    }
