"""Pages: who sees them, how they are rendered, and what a browser may do with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from kit import logs
from kit.errors import ApiError, ErrorType
from kit.rest import Call
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from portal import forms, numbers
from portal.files import Files
from portal.gateway import Answer, Gateway, Reader
from portal.servers import Servers
from portal.sessions import Session, Sessions
from portal.settings import PortalSettings

log = logs.get("portal.view")
PREFIX = "/portal"
PAGE_ROWS = 50
"""Rows of a table on one page."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Content security policy: no script and no style in a page, nothing from elsewhere."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_LONGEST = 1500
"""Characters of an address to which people return after signing in."""


@dataclass(frozen=True)
class Visit:
    """One request of a person who has signed in."""

    call: Call[Any, None]
    session: Session
    api: Reader
    form: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fields of the form of an action."""

    @property
    def gateway(self) -> Gateway:
        """The platform's API."""
        return self.api.gateway


@dataclass(frozen=True)
class Paged:
    """The rows of one page, and the numbers of the pages beside it."""

    rows: Sequence[Any]
    number: int
    pages: int
    total: int
    first: int
    """Number of the first row, from 1."""


def paged(rows: Sequence[Any], number: int) -> Paged:
    """The page with this number, from 1; a number beyond the last page gives the last one."""
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    number = min(max(number, 1), pages)
    begin = (number - 1) * PAGE_ROWS
    return Paged(rows[begin : begin + PAGE_ROWS], number, pages, len(rows), begin + 1)


@dataclass(frozen=True)
class Link:
    """An entry of the navigation."""

    path: str
    title: str
    needs: str = ""
    """Path of the API without which the page is left out."""
    operators: bool = False
    """Whether the page has nothing for others than operators."""


LINKS = (
    Link(f"{PREFIX}/mine", "Mine"),
    Link(f"{PREFIX}/ask", "Ask"),
    Link(f"{PREFIX}/requests", "Requests", "/v1/billing/requests"),
    Link(f"{PREFIX}/routes", "Routes"),
    Link(f"{PREFIX}/prompts", "Prompts", "/v1/prompts"),
    Link(f"{PREFIX}/knowledge", "Knowledge", "/v1/files"),
    Link(f"{PREFIX}/now", "Now"),
    Link(f"{PREFIX}/map", "Map"),
    Link(f"{PREFIX}/dashboards", "Dashboards", operators=True),
    Link(f"{PREFIX}/alerts", "Alerts", operators=True),
    Link(f"{PREFIX}/evidence", "Evidence", operators=True),
)
Handler = Callable[[Visit], Awaitable[Response]]


class Views:
    """Renders pages, and lets in who has signed in."""

    def __init__(self, settings: PortalSettings, gateway: Gateway, sessions: Sessions) -> None:
        self.settings, self.gateway, self.sessions, self.files = settings, gateway, sessions, Files()
        self.servers = Servers(settings)
        loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
        self._templates = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.filters |= {
            "usd": numbers.usd,
            "count": numbers.count,
            "percent": numbers.percent,
            "moment": numbers.moment,
            "instant": numbers.instant,
        }
        self._templates.globals |= {"file": self.files.address, "prefix": PREFIX, "links": self._links()}

    def _links(self) -> list[Link]:
        return [link for link in LINKS if not link.needs or self.gateway.has(link.needs)]

    # --- answers ------------------------------------------------------------------------------------

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        """A page. Every text in it is escaped."""
        session: Session | None = context.pop("session", None)
        text = self._templates.get_template(template).render(session=session, path=request.url.path, **context)
        return HTMLResponse(text, status, HEADERS)

    async def show(self, visit: Visit, template: str, status: int = 200, **context: Any) -> Response:
        """A page for a person who has signed in. If the key is refused because it is not valid, the session ends."""
        values: list[Any] = [
            one for value in context.values() for one in (value if isinstance(value, list) else [value])
        ]
        refused = any(isinstance(one, Answer) and one.status == 401 for one in values)
        if refused and await self._over(visit):
            return self.signed_out(visit.call.request)
        return self.render(visit.call.request, template, status, session=visit.session, **context)

    def signed_out(self, request: Request) -> Response:
        """Send to the page for signing in, and back afterwards."""
        had = self.sessions.find(request.cookies) is not None
        back = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        known = {"to": back} if request.method in ("GET", "HEAD") and len(back) < _LONGEST else {}
        answer = RedirectResponse(f"{PREFIX}/sign-in?{urlencode({**known, 'why': 'ended' if had else 'new'})}", 303)
        self.sessions.end(answer)
        return answer

    async def _over(self, visit: Visit) -> bool:
        """Whether the key is not valid any more. A service that has just started may not know the key yet."""
        return (await visit.api.get("/v1/self")).status == 401

    async def refuse(self, visit: Visit, answer: Answer, back: str) -> Response:
        """Page about an action that the API has refused."""
        if answer.status == 401 and await self._over(visit):
            return self.signed_out(visit.call.request)
        status = 502 if answer.away else answer.status
        return self.render(
            visit.call.request, "problem.html", status, session=visit.session, message=answer.problem, back=back
        )

    # --- who may ------------------------------------------------------------------------------------

    def page(self, handler: Handler) -> Callable[[Call[Any, None]], Awaitable[Response]]:
        """A page for people who have signed in."""

        async def answered(call: Call[Any, None]) -> Response:
            session = self.sessions.find(call.request.cookies)
            if session is None:
                return self.signed_out(call.request)
            return await handler(self._visit(call, session))

        answered.__name__ = getattr(handler, "__name__", "page")
        return answered

    def action(self, handler: Handler) -> Callable[[Call[Any, None]], Awaitable[Response]]:
        """A form that changes something. It comes from a page of the same session."""

        async def answered(call: Call[Any, None]) -> Response:
            forms.own_page(call.request)
            session = self.sessions.find(call.request.cookies)
            if session is None:
                return self.signed_out(call.request)
            form = await forms.read(call.request)
            forms.check(form, session.csrf)
            return await handler(self._visit(call, session, form))

        answered.__name__ = getattr(handler, "__name__", "action")
        return answered

    def _visit(self, call: Call[Any, None], session: Session, form: Mapping[str, str] | None = None) -> Visit:
        request_id = str(getattr(call.request.state, "request_id", ""))
        return Visit(call, session, self.gateway.reader(session.key, request_id), form or {})

    # --- errors -------------------------------------------------------------------------------------

    async def on_error(self, request: Request, error: Exception) -> Response:
        """Page about an error; programs that ask for JSON get the envelope."""
        if isinstance(error, ApiError):
            found = error
        elif isinstance(error, HTTPException):
            found = ApiError(error.status_code, error.detail)
        else:
            log.error("unexpected error", path=request.url.path, exc_info=error)
            found = ApiError(500, "The Portal had an error while making this page.", ErrorType.SERVER)
        if not request.url.path.startswith(PREFIX):
            return found.response()
        session = self.sessions.find(request.cookies)
        return self.render(request, "problem.html", found.status, session=session, message=found.message, back=PREFIX)


def done(path: str) -> Response:
    """After an action: show a page, which a reload does not repeat."""
    return RedirectResponse(path, 303)
