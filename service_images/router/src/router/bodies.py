"""Memory limit for request bodies: bodies that do not fit are refused before they are received.

A body is kept until its request has ended, since another target may need it, and is copied once into the buffer of the
connection to the target. Bodies of up to `SMALL_BYTES` are not counted; the number of connections limits them.
"""

from __future__ import annotations

from kit.errors import ApiError, ErrorType
from kit.limits import INFERENCE_BODY, ROUTER_BODIES

SMALL_BYTES = 16 * 1024
BODY_S = 60.0
"""Seconds within which a body must arrive: 16 MiB at 2.2 Mbit/s."""
AGAIN_S = 1.0
"""Retry-After in seconds."""


def too_large() -> ApiError:
    """The error for a body above the limit."""
    return ApiError(413, f"{INFERENCE_BODY}. Send less, or upload files by /v1/files.", code="body_too_large")


def too_slow() -> ApiError:
    """The error for a body that arrives too slowly."""
    return ApiError(408, f"The body has not arrived within {BODY_S:g} seconds.", code="request_timeout")


class Bodies:
    """Counts the bytes of larger bodies, in total and per tenant."""

    def __init__(self, most: int = ROUTER_BODIES.most) -> None:
        self._most = most
        self.held = 0
        self._by_tenant: dict[bytes, int] = {}

    def take(self, tenant: bytes, size: int) -> None:
        """Reserve bytes. Raises ApiError: 429 if the tenant uses half of the memory, 503 if all is in use."""
        own = self._by_tenant.get(tenant, 0)
        if own + size > max(self._most // 2, INFERENCE_BODY.most):
            message = "Your organization sends too many large requests at the same time. Wait for earlier answers."
            raise ApiError(429, message, ErrorType.RATE_LIMIT, code="rate_limit_exceeded")
        if self.held + size > self._most:
            message = "The server is receiving too many large requests. Try again later."
            raise ApiError(503, message, ErrorType.SERVER, code="overloaded")
        self._by_tenant[tenant] = own + size
        self.held += size

    def give(self, tenant: bytes, size: int) -> None:
        """Release bytes."""
        self.held -= size
        left = self._by_tenant.get(tenant, 0) - size
        if left > 0:
            self._by_tenant[tenant] = left
        else:
            self._by_tenant.pop(tenant, None)
