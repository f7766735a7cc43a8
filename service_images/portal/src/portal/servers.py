"""Servers that the Portal asks itself, since they are no part of the API: Prometheus, Jaeger, the store of log lines.

None of them knows the readers' keys, so their answers are for operators only. A server that is away, slow or sends too
much gives a problem, which the page shows instead of the content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from kit import logs, strict_json

from portal.settings import PortalSettings

log = logs.get("portal.servers")
ANSWER_S = 5.0
"""Seconds within which a server has to answer, to the last byte."""
_CONNECT_S = 2.0
MOST_BYTES = 4 * 2**20
"""Longest answer that is read, in bytes."""
_CONNECTIONS = httpx.Limits(max_connections=20, max_keepalive_connections=5)


@dataclass(frozen=True)
class Heard:
    """What a server has answered."""

    text: str = ""
    content: Any = None
    """The text as JSON; None if it is none."""
    problem: str = ""
    """Why there is no answer; empty if there is one."""


def _no_headers() -> Mapping[str, str]:
    return {}


class Server:
    """A server, with its connections."""

    def __init__(self, title: str, url: str, headers: Callable[[], Mapping[str, str]] = _no_headers) -> None:
        """`url`: empty if the environment does not run it; `headers`: those of each query, such as a login."""
        self.title, self.url, self._headers = title, url, headers
        self._http: httpx.AsyncClient | None = None

    @property
    def on(self) -> bool:
        """Whether the environment runs it."""
        return bool(self.url)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def ask(
        self, path: str, form: Mapping[str, str] | None = None, *, missing: Any = None, most_bytes: int = MOST_BYTES
    ) -> Heard:
        """Answer to a query.

        `form`: its parameters, if it is a POST; `missing`: the content if the server answers 404; `most_bytes`:
        longest answer that is read.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._asked(path, form, missing, most_bytes)
        except (TimeoutError, httpx.TimeoutException):
            return self._problem(f"{self.title} has not answered within {ANSWER_S:g} seconds.", "timeout")
        except (httpx.HTTPError, OSError) as error:
            return self._problem(f"{self.title} does not answer.", repr(error))

    async def _asked(self, path: str, form: Mapping[str, str] | None, missing: Any, most: int) -> Heard:
        method = "GET" if form is None else "POST"
        given = {} if form is None else {"data": form}
        async with self._client().stream(method, path, headers=self._headers(), **given) as answer:
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > most:
                    return self._problem(f"{self.title} sent more than {most / 2**20:g} MiB.", "too long")
        text = body.decode(errors="replace")
        if answer.status_code == 404 and missing is not None:
            return Heard(text, missing)
        if answer.status_code != 200:
            return self._problem(f"{self.title} answered {answer.status_code}.", text[:500])
        try:
            content = strict_json.loads(bytes(body))
        except strict_json.BadJson:
            content = None
        return Heard(text, content)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            timeout = httpx.Timeout(ANSWER_S, connect=_CONNECT_S)
            self._http = httpx.AsyncClient(base_url=self.url, timeout=timeout, limits=_CONNECTIONS, trust_env=False)
        return self._http

    def _problem(self, problem: str, reason: str) -> Heard:
        log.warning("no answer", who=self.title, reason=reason)
        return Heard(problem=problem)


class Servers:
    """The servers of an environment."""

    def __init__(self, settings: PortalSettings) -> None:
        login = settings.log_store_login

        def logged_in() -> Mapping[str, str]:
            # The Secret may be younger than the pod, and may change.
            return {"authorization": login.read_text().strip()} if login and login.exists() else {}

        self.prometheus = Server("Prometheus", settings.prometheus_url)
        self.jaeger = Server("Jaeger", settings.jaeger_url)
        self.log_store = Server("The log store", settings.log_store_url, logged_in)

    async def close(self) -> None:
        """Close all connections."""
        for server in (self.prometheus, self.jaeger, self.log_store):
            await server.close()
