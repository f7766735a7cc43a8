"""Calls of the platform's API through the gateway, with the reader's own key.

Each call gives an `Answer`, also if the service is away: a page shows which one, and the rest of it stands.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from kit import logs, strict_json

from portal.settings import PortalSettings
from portal.topology import Part, owner

log = logs.get("portal.gateway")
MOST_BYTES = 8 * 2**20
"""Longest answer that is read, in bytes."""
_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
_MODEL_TIMEOUT = httpx.Timeout(120.0, connect=2.0)
"""Models may take longer. Source: the Router's own limit for an answer."""
_KEPT_S = 60
"""Seconds that an idle connection is kept: a page makes up to 20 calls at once, and each would begin with TLS."""
_AWAY = (0, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """Answer of the API."""

    method: str
    path: str
    """Path with its query."""
    status: int
    """HTTP status; 0 if no answer was received."""
    content: Any = None
    problem: str = ""
    """Why there is no content; empty if there is."""
    who: str = "The gateway"
    """Title of the service that was asked."""
    seconds: float = 0.0
    text: str = ""
    """The answer as received."""

    @property
    def ok(self) -> bool:
        """Whether the content can be shown."""
        return not self.problem

    @property
    def away(self) -> bool:
        """Whether the service did not answer."""
        return self.status in _AWAY

    @property
    def query(self) -> str:
        """Address of the page that shows this answer; empty if it was not a query."""
        return f"/portal/query?{urlencode({'path': self.path})}" if self.method in ("GET", "HEAD") else ""

    def items(self, name: str = "data") -> list[Any]:
        """A list in the content, or the content itself if it is a list."""
        found = self.content.get(name) if isinstance(self.content, dict) else self.content
        return found if isinstance(found, list) else []

    def get(self, name: str, otherwise: Any = None) -> Any:
        """A field of the content."""
        return self.content.get(name, otherwise) if isinstance(self.content, dict) else otherwise


def address(template: str, *names: str, **query: object) -> str:
    """A path with quoted names in place of "{}", and a query of the parameters that have a value."""
    path = template.format(*(quote(name, safe="") for name in names))
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


class Gateway:
    """The gateway, for all readers."""

    def __init__(self, settings: PortalSettings) -> None:
        self._settings, self._parts = settings, settings.parts
        self._authority = ""
        self._http: httpx.AsyncClient | None = None

    @property
    def parts(self) -> Sequence[Part]:
        """The enabled services."""
        return self._parts

    def has(self, path: str) -> bool:
        """Whether an enabled service other than that of all remaining paths has a prefix of this path."""
        found = owner(self._parts, path)
        return found is not None and (path != "/v1/" and "/v1/" not in found.prefixes)

    def client(self) -> httpx.AsyncClient:
        """The connections. A renewed CA certificate makes new ones."""
        authority = self._settings.secret("gateway_authority")
        if self._http is None or authority != self._authority:
            verify = ssl.create_default_context(cadata=authority) if authority else True
            limits = httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=_KEPT_S)
            self._http = httpx.AsyncClient(
                base_url=self._settings.gateway_url, verify=verify, timeout=_TIMEOUT, limits=limits, trust_env=False
            )
            self._authority = authority
        return self._http

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    def called(self, path: str) -> str:
        """Title of the service that answers a path."""
        document = next((one for one in self._parts if path == f"/openapi/{one.name}.json"), None)
        found = document or owner(self._parts, path.partition("?")[0])
        return found.title if found else "The gateway"

    def reader(self, key: str, request_id: str = "") -> Reader:
        """Calls with a reader's key."""
        return Reader(self, key, request_id)


class Reader:
    """Calls with a reader's key."""

    def __init__(self, gateway: Gateway, key: str, request_id: str = "") -> None:
        self.gateway = gateway
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        if request_id:
            self._headers["x-request-id"] = request_id

    async def get(self, path: str) -> Answer:
        """Query the API."""
        return await self.call("GET", path)

    async def all(self, *paths: str) -> list[Answer]:
        """Several queries at once, in order."""
        return await asyncio.gather(*(self.get(path) for path in paths))

    async def probe(self, paths: Sequence[str]) -> list[Answer]:
        """Whether each of the paths answers, at once, and without reading what it answers."""
        return await asyncio.gather(*(self.call("HEAD", path) for path in paths))

    async def call(self, method: str, path: str, body: Any = None, *, model: bool = False) -> Answer:
        """Call the API; `model`: whether a model answers, which may take longer."""
        who, began = self.gateway.called(path), time.monotonic()
        try:
            async with self._sent(method, path, body, model=model) as answer:
                content = await _content(answer)
        except (httpx.HTTPError, ssl.SSLError) as error:
            log.warning("no answer", who=who, method=method, reason=repr(error))
            taken = time.monotonic() - began
            return Answer(method, path, 0, problem=f"{who} does not answer.", who=who, seconds=taken)
        return _read(Answer(method, path, answer.status_code, who=who, seconds=time.monotonic() - began), content)

    @asynccontextmanager
    async def _sent(self, method: str, path: str, body: Any, *, model: bool) -> AsyncIterator[httpx.Response]:
        timeout = _MODEL_TIMEOUT if model else _TIMEOUT
        client = self.gateway.client()
        given = {} if body is None else {"json": body}
        async with client.stream(method, path, headers=self._headers, timeout=timeout, **given) as answer:
            yield answer

    @asynccontextmanager
    async def stream(self, path: str, body: Any) -> AsyncIterator[httpx.Response]:
        """A model's answer as it arrives. Raises httpx.HTTPError if the service does not answer."""
        async with self._sent("POST", path, body, model=True) as answer:
            yield answer


async def _content(answer: httpx.Response) -> bytes | None:
    """The body; None if it is too long."""
    found = bytearray()
    async for piece in answer.aiter_bytes():
        found += piece
        if len(found) > MOST_BYTES:
            return None
    return bytes(found)


def _read(answer: Answer, body: bytes | None) -> Answer:
    known = {"method": answer.method, "path": answer.path, "who": answer.who, "seconds": answer.seconds}
    if body is None:
        return Answer(**known, status=answer.status, problem=f"{answer.who} sent more than {MOST_BYTES >> 20} MiB.")
    text = body.decode(errors="replace")
    try:
        content = strict_json.loads(body) if body else None
    except strict_json.BadJson:
        content = None
    if answer.status < 300:
        return Answer(**known, status=answer.status, content=content, text=text)
    return Answer(**known, status=answer.status, content=content, text=text, problem=_problem(answer, content))


def _problem(answer: Answer, content: Any) -> str:
    error: Any = content.get("error") if isinstance(content, dict) else None
    said = str(error.get("message", "")) if isinstance(error, dict) else ""
    if answer.away:
        return f"{answer.who} does not answer{f': {said}' if said else '.'}"
    return said or f"{answer.who} answered {answer.status}."
