"""Quotas: how much of each kind of thing a tenant may keep in a service.

What there is is counted where it is kept, so that the count is never wrong. A tenant that reaches 80 or 95 % of a quota
is an event (`quota.reached.v1`), once for each time that the mark is passed.
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
"""Percent of a quota at which there is an event."""
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Quota:
    """Of one resource."""

    resource: str
    """Such as "files" or "bytes of files"."""
    most: int
    count: str
    """A query that counts a tenant's: `SELECT ... WHERE tenant = %s`."""
    size: bool = False
    """It counts bytes: who has too many sends something too large (413), else too often (429)."""


class QuotaSettings(ServiceSettings):
    """Of a service whose quotas are named by their resources."""

    quotas: dict[str, int] = Field(default_factory=dict)
    """What a tenant may keep, by resource, where it is not what the service has by itself."""
    quotas_of: dict[str, dict[str, int]] = Field(default_factory=dict)
    """What single tenants may keep, by tenant and resource."""


class Quotas:
    """Of one service."""

    def __init__(self, service: str, quotas: Sequence[Quota], of: Mapping[str, Mapping[str, int]] = NONE) -> None:
        """`of`: what single tenants may keep, where it is another number: by tenant and resource."""
        self._service, self._of = service, of
        self._quotas = {quota.resource: quota for quota in quotas}

    def given(self, quotas: Mapping[str, int], of: Mapping[str, Mapping[str, int]] = NONE) -> Quotas:
        """The same with other numbers, by resource. Raises ValueError for a resource that is not known."""
        named = {*quotas, *(resource for numbers in of.values() for resource in numbers)}
        if unknown := sorted(named - self._quotas.keys()):
            raise ValueError(f"no quota of {', '.join(unknown)}; there are {', '.join(self._quotas)}")
        own = [replace(quota, most=quotas.get(quota.resource, quota.most)) for quota in self._quotas.values()]
        return Quotas(self._service, own, of)

    async def check(self, connection: Connection, tenant: str, more: Mapping[str, int]) -> None:
        """Whether so much more fits now. Raises ApiError, 413 or 429."""
        for resource, number in more.items():
            quota = self._quota(tenant, resource)
            await self._fits(connection, quota, tenant, number)

    async def use(self, connection: Connection, tenant: str, more: Mapping[str, int]) -> None:
        """Before so much more is written, in the same transaction: a tenant's writers wait for one another.

        Raises ApiError, 413 or 429.
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
        """How much there is. Raises ApiError."""
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
