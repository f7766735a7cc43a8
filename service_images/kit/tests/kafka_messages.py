"""Messages as a Kafka consumer receives them, since librdkafka's own cannot be created without a broker."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

_places = count()


@dataclass
class Received:
    """One message."""

    content: bytes
    of_key: bytes = b"acme"
    of_topic: str = "usage.recorded.v1"
    place: int = -1
    of_headers: Any = None
    """Headers as (name, value), or an exception that reading them raises."""

    def __post_init__(self) -> None:
        self.place = next(_places) if self.place < 0 else self.place

    def error(self) -> None:
        """None, since this is a message."""

    def topic(self) -> str:
        """Its topic."""
        return self.of_topic

    def partition(self) -> int:
        """Its partition."""
        return 0

    def offset(self) -> int:
        """Position in the partition."""
        return self.place

    def headers(self) -> Any:
        """Its headers; None if it has none."""
        if isinstance(self.of_headers, Exception):
            raise self.of_headers
        return self.of_headers

    def key(self) -> bytes:
        """Its key."""
        return self.of_key

    def value(self) -> bytes:
        """Content of the message."""
        return self.content
