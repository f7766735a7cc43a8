"""ASGI middleware for vLLM's server that requires the API key on all paths.

The key is in the file that `MODEL_KEY_FILE` names. vLLM's own check is not used: it needs the key in an environment
variable, which other processes can read, and it covers paths below /v1 only. /invocations serves the same requests
without a key, as do /tokenize, /pooling and /score. Source: vLLM's documentation, "Security", section "API Key
Authentication Limitations".
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
OPEN = frozenset((("GET", "/health"), ("GET", "/metrics"), ("GET", "/metrics/")))
"""Paths for the kubelet and Prometheus, which have no key. They reveal no requests."""
_REFUSAL = (
    b'{"error":{"message":"This model server wants its key as authorization: Bearer.",'
    b'"type":"authentication_error","param":null,"code":"invalid_api_key"}}'
)


class Door:
    """ASGI middleware that admits requests with the key. The body of a refused request is not read."""

    def __init__(self, app: Application) -> None:
        file = os.environ.get("MODEL_KEY_FILE", "")
        try:
            key = Path(file).read_text().strip()
        except OSError as error:
            raise SystemExit(f"the file in MODEL_KEY_FILE cannot be read: {error}") from None
        if not key:
            raise SystemExit(f"{file} is empty; a model server without a key would serve anyone")
        self._app, self._known = app, hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a connection or request."""
        kind = scope["type"]
        if kind == "lifespan" or (kind == "http" and (scope["method"], scope["path"]) in OPEN) or self._shown(scope):
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            headers.append((b"content-length", str(len(_REFUSAL)).encode()))
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})

    def _shown(self, scope: Message) -> bool:
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = shown.partition(b" ")
        right = hmac.compare_digest(hashlib.sha256(key).digest(), self._known)
        return scheme.lower() == b"bearer" and right
