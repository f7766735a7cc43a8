"""API keys while NATS is unavailable: known keys stay valid for a limited time, then User must confirm each key.

Revocations normally reach every replica through NATS within a second. A disconnected replica would accept revoked keys
forever, so after `bound_s` seconds it asks User over gRPC, and caches each answer for `KEPT_S` seconds. A key that
cannot be confirmed is refused.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import grpc
import grpc.aio
from cogniforge.user.v1 import user_pb2 as messages
from cogniforge.user.v1 import user_pb2_grpc as service
from kit import logs, rpc, telemetry
from kit.errors import unavailable
from prometheus_client import Gauge

log = logs.get("router.confirming")
PATIENCE_S = 2.0
KEPT_S = 30.0
"""Seconds that a confirmation is cached."""
_REMEMBERED = 10_000
_AWAY = Gauge(
    "router_keys_away_seconds",
    "Seconds since when NATS is unavailable, so that revoked keys are unknown; 0: it is available.",
    registry=telemetry.REGISTRY,
)


class Confirming:
    """Confirms keys with User that may have been revoked."""

    def __init__(self, target: str, bound_s: float, away_since: Callable[[], float | None]) -> None:
        self._client = rpc.Client("user", target, service.UserServiceStub) if target else None
        self._bound_s, self._away_since = bound_s, away_since
        self._confirmed: OrderedDict[bytes, float] = OrderedDict()
        _AWAY.set_function(self._away_s)

    def _away_s(self) -> float:
        since = self._away_since()
        return 0.0 if since is None else time.monotonic() - since

    def needed(self, digest: bytes) -> bool:
        """Whether a key must be confirmed before its request continues."""
        since = self._away_since()
        if since is None or (now := time.monotonic()) - since <= self._bound_s:
            return False
        return now - self._confirmed.get(digest, float("-inf")) > KEPT_S

    async def confirm(self, key: bytes, digest: bytes, tenant: str) -> bool:
        """Whether a key is still valid according to User. Raises ApiError(503) if User is unavailable, too."""
        if self._client is None:
            raise unavailable("User")
        question = messages.CheckRequest(tenant=tenant, object="key:confirm", relation="holder", subject="key:confirm")
        metadata = (("authorization", f"Bearer {key.decode('latin-1')}"),)
        try:
            await self._client.stub.Check(question, timeout=PATIENCE_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if rpc.stranger(error):
                log.error("User refuses the Router's token", reason=error.details())
                raise unavailable("User") from None
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._confirmed.pop(digest, None)
                return False
            # Any other refusal concerns the request itself: User has accepted the key.
            known = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)
            if error.code() not in known:
                log.warning("User is unavailable", reason=error.code().name)
                raise unavailable("User") from None
        self._confirmed[digest] = time.monotonic()
        self._confirmed.move_to_end(digest)
        if len(self._confirmed) > _REMEMBERED:
            self._confirmed.popitem(last=False)
        return True
