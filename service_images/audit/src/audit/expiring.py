"""Retention of the content of entries, by class. The entries themselves and all proofs are kept forever.

A leaf commits to its content by a salted hash. Content, subject and salt are stored next to the leaf and are deleted
together. After that, no guess of the content can be confirmed, and the tree stays valid. The log records what has
expired. Leaves of version 1 contain their encrypted content, which becomes unreadable only with the tenant's key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from kit import events
from kit.database import Connection
from kit.retention import BATCH, Expire

from audit.ledger import Ledger

EXPIRED = "audit.expired.v1"
"""Type of the entry that records expired content. It is written here, without a topic."""
ACTOR = "service:audit"
CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "money": ("billing.changed.v1", "invoice.issued.v1"),
        "content": ("document.changed.v1", "guard.decided.v1", "prompt.changed.v1", "quota.reached.v1"),
        "usage": ("usage.recorded.v1",),
    }
)
"""Event types by class. All other types belong to the class "security"."""
SECURITY = "security"
_OTHERS = tuple(name for names in CLASSES.values() for name in names)
_EXPIRE = """
UPDATE entries SET subject = NULL, content = NULL WHERE number IN (
    SELECT number FROM entries WHERE content IS NOT NULL AND {} AND time < %(before)s ORDER BY time LIMIT %(batch)s)
"""


def class_of(kind: str) -> str:
    """Class of an event type."""
    name = kind.removeprefix(events.TYPE_PREFIX)
    return next((found for found, names in CLASSES.items() if name in names), SECURITY)


class Expiring:
    """Expires content of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def after(self, days: Mapping[str, int]) -> Iterator[Expire]:
        """Functions that delete expired content, for retention in days by class; 0 means never."""
        for name, kept in days.items():
            if kept:
                yield self._of(name, kept)

    def _of(self, name: str, days: int) -> Expire:
        which = "NOT (type = ANY(%(types)s))" if name == SECURITY else "type = ANY(%(types)s)"
        types = [events.TYPE_PREFIX + kind for kind in CLASSES.get(name, _OTHERS)]

        async def expire(connection: Connection) -> bool:
            before = datetime.now(UTC) - timedelta(days=days)
            values = {"types": types, "before": before, "batch": BATCH}
            cursor = await connection.execute(_EXPIRE.format(which).encode(), values)
            if cursor.rowcount:
                after = {"class": name, "before": before.isoformat(), "entries": cursor.rowcount}
                data = {"tenant": "", "change": "expired", "actor": ACTOR, "after": after}
                await self._ledger.record(connection, [events.event(EXPIRED, "audit", f"retention/{name}", data)])
            return cursor.rowcount == BATCH

        return expire
