"""A fair queue: one queue per tenant, served in turns."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """Queues by tenant. A served tenant moves to the end, and has at most `running_each` items running."""

    def __init__(self, running_each: int) -> None:
        self._running_each = running_each
        self._lanes: OrderedDict[str, deque[Item]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self.waiting = 0
        """Number of waiting items of all tenants."""

    def waiting_of(self, tenant: str) -> int:
        """Number of waiting items of a tenant."""
        return len(self._lanes.get(tenant, ()))

    def all(self) -> list[Item]:
        """All waiting items."""
        return [item for lane in self._lanes.values() for item in lane]

    def put(self, tenant: str, item: Item) -> None:
        """Add an item at the end of its tenant's queue."""
        self._lanes.setdefault(tenant, deque()).append(item)
        self.waiting += 1

    def take(self) -> Item | None:
        """The next item of a tenant below its limit. It counts as running until `ended`."""
        tenant = next((name for name in self._lanes if self._running[name] < self._running_each), None)
        if tenant is None:
            return None
        item = self._lanes[tenant][0]
        self.drop(tenant, item)
        self._running[tenant] += 1
        if tenant in self._lanes:
            self._lanes.move_to_end(tenant)
        return item

    def drop(self, tenant: str, item: Item) -> None:
        """Remove a waiting item. No effect if it is not waiting."""
        lane = self._lanes.get(tenant)
        if lane is None or item not in lane:
            return
        lane.remove(item)
        self.waiting -= 1
        if not lane:
            del self._lanes[tenant]

    def ended(self, tenant: str) -> None:
        """Record that an item of the tenant has ended."""
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
