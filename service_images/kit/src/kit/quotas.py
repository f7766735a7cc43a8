"""Quotas: limits on the resources that a tenant stores in a service.

Usage is counted in the tables themselves, so the count is always exact. When a tenant reaches 80 % or 95 % of a quota,
the service publishes an event (`quota.reached.v1`), once per crossing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pydantic import Field

from kit import outbox
from kit.database import Connection
from kit.errors import ApiError, ErrorType
from kit.settings import ServiceSettings

TOPIC = "quota.reached.v1"
CODE = "quota_exceeded"
MARKS = (80, 95)
"""Percentages of a quota at which an event is published."""
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Quota:
    """Quota of one resource."""

    resource: str
    """Name of the resource, such as "files" or "bytes of files"."""
    most: int
    count: str
    """Query that counts a tenant's usage: `SELECT ... WHERE tenant = %s`."""
    size: bool = False
    """Whether it counts bytes. Requests beyond it are then answered with 413 instead of 429."""


class QuotaSettings(ServiceSettings):
    """Settings of a service with quotas, by resource."""

    quotas: dict[str, int] = Field(default_factory=dict)
    """General quotas by resource, which override the service's defaults."""
    quotas_of: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Quotas of single tenants, by tenant and resource."""


class Quotas:
    """All quotas of a service."""

    def __init__(self, service: str, quotas: Sequence[Quota], of: Mapping[str, Mapping[str, int]] = NONE) -> None:
        """`of`: quotas of single tenants, by tenant and resource."""
        self._service, self._of = service, of
        self._quotas = {quota.resource: quota for quota in quotas}

    def given(self, quotas: Mapping[str, int], of: Mapping[str, Mapping[str, int]] = NONE) -> Quotas:
        """These quotas with other values, by resource. Raises ValueError for an unknown resource."""
        named = {*quotas, *(resource for numbers in of.values() for resource in numbers)}
        if unknown := sorted(named - self._quotas.keys()):
            raise ValueError(f"there is no quota of {', '.join(unknown)}; known are {', '.join(self._quotas)}")
        own = [replace(quota, most=quotas.get(quota.resource, quota.most)) for quota in self._quotas.values()]
        return Quotas(self._service, own, of)

    async def check(self, connection: Connection, tenant: str, more: Mapping[str, int]) -> None:
        """Check that `more` fits. Raises ApiError 413 or 429."""
        for resource, number in more.items():
            quota = self._quota(tenant, resource)
            await self._fits(connection, quota, tenant, number)

    async def use(self, connection: Connection, tenant: str, more: Mapping[str, int]) -> None:
        """Check that `more` fits before it is written in the same transaction. Writers of a tenant are serialized.

        Raises ApiError 413 or 429.
        """
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"quota:{tenant}",))
        for resource, number in more.items():
            quota = self._quota(tenant, resource)
            used = await self._fits(connection, quota, tenant, number)
            for mark in MARKS:
                if used * 100 < mark * quota.most <= (used + number) * 100:
                    data = {"tenant": tenant, "service": self._service, "resource": resource, "percent": mark}
                    data |= {"used": used + number, "limit": quota.most}
                    await outbox.put(connection, TOPIC, self._service, tenant, data)

    def _quota(self, tenant: str, resource: str) -> Quota:
        quota = self._quotas[resource]
        most = self._of.get(tenant, NONE).get(resource)
        return quota if most is None else replace(quota, most=most)

    @staticmethod
    async def _fits(connection: Connection, quota: Quota, tenant: str, number: int) -> int:
        """Current usage. Raises ApiError."""
        row = await (await connection.execute(quota.count.encode(), (tenant,))).fetchone()
        used = int(row[0]) if row else 0
        if used + number > quota.most:
            message = (
                f"The tenant's quota of {quota.resource} is {quota.most}; there are {used}, and {number} more do not "
                "fit. Delete some, or ask the operator for a larger quota."
            )
            kind = ErrorType.INVALID_REQUEST if quota.size else ErrorType.RATE_LIMIT
            raise ApiError(413 if quota.size else 429, message, kind, code=CODE)
        return used
