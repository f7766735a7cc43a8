"""Memory that bodies of requests may take together: what does not fit is refused before it is received.

A body is kept until its request has ended, since another target may be asked with it, and is copied once into the
buffer of the connection to the target. Bodies of up to `SMALL_BYTES` are not counted: connections limit these.
"""

from __future__ import annotations

from kit.errors import ApiError, ErrorType
from kit.limits import INFERENCE_BODY, ROUTER_BODIES

SMALL_BYTES = 16 * 1024
BODY_S = 60.0
"""Seconds in which a body must have come: 16 MiB at 2.2 Mbit/s."""
AGAIN_S = 1.0
"""Seconds after which a client may try again."""


def too_large() -> ApiError:
    """The answer to a body above the limit."""
    return ApiError(413, f"{INFERENCE_BODY}. Send less, or upload files by /v1/files.", code="body_too_large")


def too_slow() -> ApiError:
    """The answer to a body that does not come."""
    return ApiError(408, f"The body has not come within {BODY_S:g} seconds.", code="request_timeout")


class Bodies:
    """Counts the bytes of larger bodies, together and for each tenant."""

    def __init__(self, most: int = ROUTER_BODIES.most) -> None:
        self._most = most
        self.held = 0
        self._by_tenant: dict[bytes, int] = {}

    def take(self, tenant: bytes, size: int) -> None:
        """So many bytes more. Raises ApiError: 429 where a tenant has its half, 503 where all is taken."""
        own = self._by_tenant.get(tenant, 0)
        if own + size > max(self._most // 2, INFERENCE_BODY.most):
            message = "Your organization sends too many large requests at once. Wait for the answers to earlier ones."
            raise ApiError(429, message, ErrorType.RATE_LIMIT, code="rate_limit_exceeded")
        if self.held + size > self._most:
            message = "The server receives too many large requests now."
            raise ApiError(503, message, ErrorType.SERVER, code="overloaded")
        self._by_tenant[tenant] = own + size
        self.held += size

    def give(self, tenant: bytes, size: int) -> None:
        """So many bytes less."""
        self.held -= size
        left = self._by_tenant.get(tenant, 0) - size
        if left > 0:
            self._by_tenant[tenant] = left
        else:
            self._by_tenant.pop(tenant, None)
