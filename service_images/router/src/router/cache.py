"""Answers given again: exact requests, per tenant, asked of the model once however many wait for it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Protocol

MAX_BYTES = 16 * 1024 * 1024
"""Of all answers together."""
MAX_ANSWER = 1024 * 1024
"""Larger answers are not kept."""
MAX_MEANINGS = 16_384
"""Keys of repeated requests that are remembered with what they stood for."""
_OVERHEAD = 200
"""Bytes that an entry takes beside the answer."""


class Waiter(Protocol):
    """A request that waits for the answer to an equal one."""

    def on_shared(self, body: bytes | None) -> None:
        """The answer, or None: ask yourself."""


class ResponseCache:
    """Least recently used answers go first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._meanings: OrderedDict[bytes, bytes] = OrderedDict()
        self._waiting: dict[bytes, list[Waiter]] = {}
        self._max, self._size = max_bytes, 0
        self.hits = 0
        self.misses = 0

    @staticmethod
    def key(tenant: bytes, path: bytes, body: bytes) -> bytes:
        """Of a request; no two tenants share one."""
        return hashlib.blake2b(b"\0".join((tenant, path, body)), digest_size=16).digest()

    def get(self, key: bytes, now: float) -> bytes | None:
        """The answer's body, if there is a fresh one."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        until, body = entry
        if now >= until:
            self._remove(key)
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return body

    def same(self, key: bytes, content: bytes) -> bool:
        """Whether `key` has stood for this content all the time that it is remembered; it does from now on."""
        known = self._meanings.setdefault(key, content)
        if len(self._meanings) > MAX_MEANINGS:
            self._meanings.popitem(last=False)
        return known == content

    def put(self, key: bytes, body: bytes, until: float) -> None:
        """Keep an answer."""
        if len(body) > MAX_ANSWER:
            return
        self._remove(key)
        self._entries[key] = (until, body)
        self._size += len(body) + _OVERHEAD
        while self._size > self._max:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(entry[1]) + _OVERHEAD

    def lead(self, key: bytes, waiter: Waiter) -> bool:
        """True: nobody asks yet, so the caller does and calls `settle`. False: `waiter` will be told."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = []
            return True
        waiting.append(waiter)
        return False

    def settle(self, key: bytes, body: bytes | None) -> None:
        """The one who asked has an answer, or None: of those who wait, each asks for itself."""
        for waiter in self._waiting.pop(key, ()):
            waiter.on_shared(body)

    def clear(self) -> None:
        """Forget all answers."""
        self._entries.clear()
        self._size = 0
