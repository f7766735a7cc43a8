"""Signing in and out: with an API key, or with a login at the identity provider, which User completes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from kit import arrival
from kit.errors import ApiError, ErrorType
from kit.rest import Call, Model
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from portal import forms
from portal.gateway import Answer, address
from portal.view import PREFIX, Views, Visit

_HOME = f"{PREFIX}/mine"


class Entry(Model):
    """Query of the page for signing in."""

    to: str = Field(default=_HOME, max_length=2000, description="Page that is shown afterwards")
    why: str = Field(
        default="new", pattern="^(new|ended|out|key|refused)$", description="Why the person has to sign in"
    )
    tenant: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$", description="Tenant to log in to")


def _inside(path: str) -> str:
    """A page of the Portal; everything else would send people to another site."""
    safe = path.startswith(f"{PREFIX}/") and "\\" not in path and path.isprintable()
    return path if safe else _HOME


class Signing:
    """The pages."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def home(self, call: Call[Any, None]) -> Response:
        """The first page."""
        return RedirectResponse(_HOME, 303)

    async def sign_in(self, call: Call[Entry, None]) -> Response:
        """The page for signing in."""
        return self._entry(call, call.query.to, call.query.why, call.query.tenant)

    def _entry(self, call: Call[Any, None], to: str, why: str, tenant: str = "", status: int = 200) -> Response:
        login = f"/v1/login?{urlencode({'tenant': tenant, 'arrive': 'true'})}" if tenant else ""
        logins = self._views.settings.logins
        context: dict[str, Any] = {"to": _inside(to), "why": why, "logins": logins, "login": login, "tenant": tenant}
        return self._views.render(call.request, "sign-in.html", status, **context)

    async def with_key(self, call: Call[Any, None]) -> Response:
        """Begin a session with the key of the form."""
        forms.own_page(call.request)
        form = await forms.read(call.request)
        key, to = form.get("key", "").strip(), form.get("to", "")
        if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= 500:
            return self._entry(call, to, "key", status=401)
        about = await self._views.gateway.reader(key).get("/v1/self")
        if about.status == 401:
            return self._entry(call, to, "key", status=401)
        return self._begin(key, about, _inside(to), login=False)

    async def arrive(self, call: Call[Any, None]) -> Response:
        """Begin a session with the key of a login that has just ended."""
        key = arrival.received(call.request.cookies)
        about = await self._views.gateway.reader(key).get("/v1/self")
        if not key or about.status == 401:
            return RedirectResponse(f"{PREFIX}/sign-in?why=refused", 303)
        answer = self._begin(key, about, _HOME, login=True)
        arrival.end(answer)
        return answer

    def _begin(self, key: str, about: Answer, to: str, *, login: bool) -> Response:
        if not about.ok:
            raise ApiError(503, about.problem, ErrorType.SERVER, code="unavailable")
        answer = RedirectResponse(to, 303)
        self._views.sessions.begin(answer, key, about.content, login=login)
        return answer

    async def sign_out(self, visit: Visit) -> Response:
        """End the session. The key of a login is revoked if it may manage keys, and else it expires."""
        session = visit.session
        if session.login and session.allows("manage"):
            await visit.api.call("DELETE", address("/v1/tenants/{}/keys/{}", session.tenant, session.key_id))
        answer = RedirectResponse(f"{PREFIX}/sign-in?why=out", 303)
        self._views.sessions.end(answer)
        return answer
