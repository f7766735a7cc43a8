"""HTTP client for engines with a JSON API."""

from __future__ import annotations

from typing import Any

import httpx
from kit import logs
from kit.errors import ApiError, unavailable

log = logs.get("retriever.engines")
_TIMEOUT_S = 30.0
_MISSING = 404


class Api:
    """One server."""

    def __init__(self, url: str, headers: dict[str, str], http: httpx.AsyncClient | None = None) -> None:
        self._http = http or httpx.AsyncClient(timeout=_TIMEOUT_S)
        self._url, self._headers = url.rstrip("/"), headers

    async def call(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        """The decoded answer; None for 404 if `missing` allows that. Raises ApiError(503)."""
        try:
            answer = await self._http.request(method, f"{self._url}{path}", json=body, headers=self._headers)
        except httpx.HTTPError as error:
            raise self.refused(repr(error)) from None
        if missing and answer.status_code == _MISSING:
            return None
        if answer.status_code >= 300:
            raise self.refused(f"HTTP {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else {}

    @staticmethod
    def refused(reason: str) -> ApiError:
        """Error for clients. The reason is logged for operators only."""
        log.warning("the vector database refused a request", reason=reason)
        return unavailable("The vector database")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
