"""Counts the tokens of a request for Anthropic's clients (`/v1/messages/count_tokens`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from kit import logs

from router import usage

if TYPE_CHECKING:
    from router.selection import RouteState
    from router.targets import TargetState

log = logs.get("router.token_count")
PATH = "/v1/messages/count_tokens"
PATIENCE_S = 2.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Maximum bytes of vLLM's answer, which contains every token's ID besides their count."""


class _Collected:
    """Receives a whole answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._status, self._size = 0, 0
        self._pieces: list[bytes] = []

    def on_head(self, status: int, kind: bytes, after: bytes) -> None:
        self._status = status

    def on_data(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_ANSWER_BYTES:
            self._pieces.append(data)

    def on_end(self) -> None:
        if not self.answer.done():
            self.answer.set_result((self._status, b"".join(self._pieces)))

    def on_failure(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionError(reason))


async def count(route: RouteState, chat: dict[str, Any]) -> int:
    """Input tokens of a chat completion: the model server's count, or an estimate if no server of the model counts."""
    for state in route.targets:
        try:
            found = await _tokenized(state, {**chat, "model": state.target.upstream_model or route.route.model})
        except (ConnectionError, TimeoutError) as error:
            log.warning("a model server does not count tokens", target=state.label, reason=str(error) or "timeout")
            continue
        if found is not None:
            return found
    return usage.estimate(msgspec.json.encode([chat["messages"], chat.get("tools")]))


async def _tokenized(state: TargetState, chat: dict[str, Any]) -> int | None:
    """Count of vLLM's /tokenize; None if the server has no such path, or refuses this request."""
    asked = {name: chat[name] for name in ("model", "messages", "tools") if name in chat}
    body = msgspec.json.encode({**asked, "add_generation_prompt": True})
    head = b"POST %s/tokenize HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
    sink = _Collected()
    shown = state.authorization()
    ticket = state.pool.send(head % (state.prefix, state.host_header, shown, len(body)) + body, sink)
    try:
        status, answer = await asyncio.wait_for(sink.answer, PATIENCE_S)
    except TimeoutError:
        ticket.cancel()
        raise
    if status != 200:
        return None
    try:
        found = msgspec.json.decode(answer)
        counted = found.get("count") if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None
    return counted if isinstance(counted, int) and not isinstance(counted, bool) and counted >= 0 else None
