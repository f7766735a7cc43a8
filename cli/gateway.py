"""Client for an environment's REST APIs, through its gateway.

It has the key of the person who is logged in (`forge login`), or else the installation key.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import httpx

from local.errors import LocalError


class Refused(LocalError):
    """A service has answered with an error."""

    def __init__(self, problem: str, status: int, param: str, *, reason: str, fix: str) -> None:
        """`param`: the part of the request that the service names; empty if it names none."""
        super().__init__(problem, reason=reason, fix=fix)
        self.status, self.param = status, param


def connect(stack_name: str) -> httpx.Client:
    """HTTP client for the environment's gateway. Raises LocalError if the environment is not running."""
    from cli import login, stack

    found = stack.running(stack_name)
    key = found["apiKey"]
    if login.file(stack_name).exists():
        with _client(found, found["url"].removesuffix("/v1")) as client:
            key = login.key(client, stack_name) or key
    client = _client(found, found["url"])
    client.headers["authorization"] = f"Bearer {key}"
    return client


def root(stack_name: str) -> httpx.Client:
    """HTTP client for the gateway's root, without a key. Raises LocalError if the environment is not running."""
    from cli import stack

    found = stack.running(stack_name)
    return _client(found, found["url"].removesuffix("/v1"))


def _client(outputs: dict[str, Any], url: str) -> httpx.Client:
    context = ssl.create_default_context(cadata=outputs["authority"])
    return httpx.Client(base_url=url, verify=context, trust_env=False, timeout=30)


def path(*parts: str) -> str:
    """Path of an operation. The first part is used as it is; the names after it are percent-encoded."""
    operation, *names = parts
    return "/".join([operation, *(quote(name, safe="") for name in names)])


def ask(client: httpx.Client, method: str, path: str, *, fix: str = "", **more: Any) -> Any:
    """Call an operation and return its JSON answer, or None if it is empty.

    Raises LocalError if the gateway is unreachable, and Refused with the service's message if it refuses.
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
    param = ""
    try:
        reason = answer.json()["error"]["message"]
        param = str(answer.json()["error"].get("param") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = answer.text[:300]
    problem = f"{method} {path}: HTTP {answer.status_code}"
    raise Refused(problem, answer.status_code, param, reason=str(reason), fix=fix)
