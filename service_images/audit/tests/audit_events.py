"""Events for tests of Audit."""

from __future__ import annotations

import uuid
from typing import Any


def event(tenant: str = "acme", subject: str = "user/1", **more: Any) -> dict[str, Any]:
    """A CloudEvent."""
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/services/user",
        "type": "dev.cogniforge.user.changed.v1",
        "time": "2026-11-24T10:00:00Z",
        "subject": subject,
        "data": {"tenant": tenant, "kind": "user", "change": "updated"},
        **more,
    }
