"""Cache of answers to equal requests, per tenant. Concurrent equal requests call the model once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Protocol

MAX_BYTES = 16 * 1024 * 1024
"""Maximum bytes of all cached answers."""
MAX_ANSWER = 1024 * 1024
"""Maximum bytes of an answer. Larger ones are not cached."""
MAX_MEANINGS = 16_384
"""Number of remembered Idempotency-Keys, each with a digest of its request."""
_OVERHEAD = 200
"""Bytes that an entry needs beside the answer."""


class Waiter(Protocol):
    """A request that waits for the answer of an equal one."""

    def on_shared(self, body: bytes | None) -> None:
        """Receive the answer, or None if this request must call the model itself."""


class ResponseCache:
    """An LRU cache of answers."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._meanings: OrderedDict[bytes, bytes] = OrderedDict()
        self._waiting: dict[bytes, list[Waiter]] = {}
        self._max, self._size = max_bytes, 0
        self.hits = 0
        self.misses = 0

    @staticmethod
    def key(tenant: bytes, path: bytes, body: bytes) -> bytes:
        """Cache key of a request. Tenants never share one."""
        return hashlib.blake2b(b"\0".join((tenant, path, body)), digest_size=16).digest()

    def get(self, key: bytes, now: float) -> bytes | None:
        """Body of a fresh answer, or None."""
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
        """Whether `key` was used with this content only, as far as it is remembered. Remembers it."""
        known = self._meanings.setdefault(key, content)
        if len(self._meanings) > MAX_MEANINGS:
            self._meanings.popitem(last=False)
        return known == content

    def put(self, key: bytes, body: bytes, until: float) -> None:
        """Store an answer."""
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
        """True: the caller calls the model and then `settle`. False: `waiter` gets the answer of a running request."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = []
            return True
        waiting.append(waiter)
        return False

    def settle(self, key: bytes, body: bytes | None) -> None:
        """Pass the answer to all waiting requests. None makes each of them call the model itself."""
        for waiter in self._waiting.pop(key, ()):
            waiter.on_shared(body)

    def clear(self) -> None:
        """Drop all answers."""
        self._entries.clear()
        self._size = 0
