"""A client that disconnects before its body is complete."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message


def status(application: ASGIApp, method: str, path: str, *headers: tuple[bytes, bytes]) -> int:
    """Status of the answer, which the client does not receive."""
    coming: list[Message] = [
        {"type": "http.request", "body": b'{"na', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": list(headers),
        "app": None,
    }
    asyncio.run(application(scope, receive, send))
    return int(sent[0]["status"])
