"""Hands the key of a login in a browser from the service that made it to the one that has pages.

Both are at the same host behind the gateway. The key is in a cookie that scripts cannot read, and that browsers send to
one path for less than a minute; it is in no address, and so in no log or history.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import RedirectResponse, Response

COOKIE = "cogniforge-arrival"
LASTS_S = 60
"""Seconds until the cookie expires."""


def send(path: str, key: str = "") -> Response:
    """Redirect a browser to `path` with the key; without a key, the login has failed."""
    answer = RedirectResponse(path, 303)
    if key:
        answer.set_cookie(COOKIE, key, max_age=LASTS_S, path=path, secure=True, httponly=True, samesite="lax")
    return answer


def received(cookies: Mapping[str, str]) -> str:
    """The key; empty if there is none."""
    return cookies.get(COOKIE, "")


def end(answer: Response, path: str) -> None:
    """Remove the cookie once the key has arrived."""
    answer.delete_cookie(COOKIE, path=path, secure=True, httponly=True, samesite="lax")
