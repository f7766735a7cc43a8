"""Hands the key of a login in a browser from the service that made it to the one that has pages.

Both are at the same host behind the gateway. The key is in a cookie that scripts cannot read, that no other host of the
domain can set, and that ends when it arrives, or after a minute; it is in no address, and so in no log or history.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import RedirectResponse, Response

COOKIE = "__Host-cogniforge-arrival"
"""With this prefix, browsers take a cookie from this host alone. Otherwise, another host of the domain could sign a
person in with a key of its own."""
LASTS_S = 60
"""Seconds until the cookie expires."""


def send(path: str, key: str = "") -> Response:
    """Redirect a browser to `path` with the key; without a key, the login has failed."""
    answer = RedirectResponse(path, 303)
    if key:
        answer.set_cookie(COOKIE, key, max_age=LASTS_S, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def received(cookies: Mapping[str, str]) -> str:
    """The key; empty if there is none."""
    return cookies.get(COOKIE, "")


def end(answer: Response) -> None:
    """Remove the cookie once the key has arrived."""
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
