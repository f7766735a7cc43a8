"""Pages of a Portal in the test's own process, which needs no platform for what its own servers know."""

from __future__ import annotations

from typing import Any

from portal.__main__ import create
from portal.sessions import COOKIE, Sessions
from portal.settings import PortalSettings
from pydantic import SecretStr
from starlette.responses import Response
from starlette.testclient import TestClient

from service_images.portal.tests.running_platform import SECRET


def page(path: str, *scopes: str, status: int = 200, key: str = "cf-secret", **settings: Any) -> str:
    """A page for a key with these scopes; `settings`: of the Portal."""
    about: dict[str, Any] = {"tenant": "acme", "key": "k", "user": "", "scopes": list(scopes)}
    entry = Response()
    Sessions(SECRET).begin(entry, key, about)
    cookie = entry.headers["set-cookie"].split(";")[0]
    assert cookie.startswith(COOKIE)
    with TestClient(create(PortalSettings(**{"session_secret": SecretStr(SECRET), **settings}))) as client:
        answer = client.get(path, headers={"cookie": cookie})
    assert answer.status_code == status, answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    return answer.text
