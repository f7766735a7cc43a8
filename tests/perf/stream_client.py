"""`python stream_client.py PORT STREAMS TOKENS KEY`: reads and counts many paced streams at once; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop


class Stream(asyncio.Protocol):
    """One streamed completion."""

    def __init__(self, request: bytes, done: asyncio.Future[tuple[int, float, float]]) -> None:
        self._request, self._done = request, done
        self._pieces = 0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = transport
        self._begun = time.perf_counter()
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count tokens."""
        if not self._pieces:
            self._first = time.perf_counter()
        self._pieces += data.count(b"data: {")
        if b"[DONE]" in data and not self._done.done():
            now = time.perf_counter()
            self._done.set_result((self._pieces, now - self._first, self._first - self._begun))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection must not close before the end."""
        if not self._done.done():
            self._done.set_exception(ConnectionError(f"the stream was cut: {exc}"))


async def main(port: int, streams: int, tokens: int, key: str) -> None:
    """Run all streams."""
    question = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Tell me a long story."}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
    }
    body = json.dumps(question).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n%s" % (key.encode(), len(body), body)
    )
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    waiting = []
    for _ in range(streams):
        done = loop.create_future()
        await loop.create_connection(lambda done=done: Stream(request, done), "127.0.0.1", port)
        waiting.append(done)
    found = await asyncio.wait_for(asyncio.gather(*waiting), 120)
    lasted = sorted(seconds for _, seconds, _ in found)
    pieces = sum(count for count, _, _ in found)
    print(
        json.dumps(
            {
                "pieces": pieces,
                "pieces a second": round(pieces / (time.perf_counter() - begun)),
                "median stream, s": round(lasted[len(lasted) // 2], 3),
                "slowest stream, s": round(lasted[-1], 3),
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
