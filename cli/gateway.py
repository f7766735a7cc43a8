"""Client for an environment's REST APIs, through its gateway and with the installation key."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import httpx

from local.errors import LocalError


def connect(stack_name: str) -> httpx.Client:
    """HTTP client for the environment's gateway. Raises LocalError if the environment is not running."""
    from cli import stack

    found = stack.running(stack_name)
    context = ssl.create_default_context(cadata=found["authority"])
    headers = {"authorization": f"Bearer {found['apiKey']}"}
    return httpx.Client(base_url=found["url"], verify=context, headers=headers, trust_env=False, timeout=30)


def path(*parts: str) -> str:
    """Path of an operation. The first part is used as it is; the names after it are percent-encoded."""
    operation, *names = parts
    return "/".join([operation, *(quote(name, safe="") for name in names)])


def ask(client: httpx.Client, method: str, path: str, *, fix: str = "", **more: Any) -> Any:
    """Call an operation and return its JSON answer, or None if it is empty.

    Raises LocalError if the gateway is unreachable, or with the service's message if it refuses.
    """
    try:
        answer = client.request(method, path, **more)
    except httpx.HTTPError as error:
        raise LocalError(
            "the gateway does not answer", reason=str(error) or type(error).__name__, fix="see `forge status`"
        ) from None
    if answer.is_success:
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise LocalError(f"{method} {path}: the answer is not JSON", reason=answer.text[:300]) from None
    try:
        reason = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        reason = answer.text[:300]
    raise LocalError(f"{method} {path}: HTTP {answer.status_code}", reason=str(reason), fix=fix)
