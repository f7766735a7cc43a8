"""Events for tests of Billing."""

from __future__ import annotations

import uuid
from typing import Any


def used(tenant: str = "acme", time: str = "2026-10-05T10:00:00Z", **more: Any) -> dict[str, Any]:
    """A usage event."""
    data = {"tenant": tenant, "model": "small", "operation": "chat", "input_tokens": 1000, "output_tokens": 100}
    return {
        "specversion": "1.0",
        "id": more.pop("id", uuid.uuid4().hex),
        "source": "/services/router",
        "type": "dev.cogniforge.usage.recorded.v1",
        "time": time,
        "data": {**data, **more},
    }
