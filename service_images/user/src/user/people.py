"""Operations for the people of a tenant: users, roles, teams."""

from __future__ import annotations

import uuid
from typing import Any

from kit.database import Database
from kit.errors import ApiError, missing
from kit.quotas import Quotas
from kit.rest import Call
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row

from user import keys, relations, rights, tables
from user.models import NewTeam, NewUser, Relation, Tuple, User


class People:
    """Mixin of `Api`."""

    _database: Database
    _quotas: Quotas

    def _wake(self) -> None:
        """Start publication of committed changes."""

    async def make_user(self, call: Call[Any, NewUser]) -> User:
        """Theirs is the first login with a verified address that is this one."""
        tenant, wanted = tables.own(call), call.body
        async with self._database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await tables.found_tenant(connection, tenant)
            await self._quotas.use(connection, tenant, {"users": 1})
            try:
                await cursor.execute(
                    "INSERT INTO users (id, tenant, email, name) VALUES (%s, %s, lower(%s), %s) "
                    "RETURNING id, tenant, email, name, created",
                    (uuid.uuid4().hex, tenant, wanted.email, wanted.name),
                )
            except UniqueViolation:
                raise ApiError(409, "The tenant has a user with this address.", param="email") from None
            row = await cursor.fetchone()
            assert row is not None, "an insert returns its row"
            made = User(**row)
            await tables.note(connection, call, tenant, "user", made.id, "created", made)
        return made

    async def users(self, call: Call[Any, None]) -> list[User]:
        """In order of their addresses."""
        tenant = tables.own(call)
        async with self._database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await tables.found_tenant(connection, tenant)
            await cursor.execute(
                "SELECT id, tenant, email, name, created FROM users WHERE tenant = %s ORDER BY email", (tenant,)
            )
            return [User(**row) for row in await cursor.fetchall()]

    async def drop_user(self, call: Call[Any, None]) -> None:
        """Keys are revoked everywhere within a second."""
        tenant, user = tables.own(call), call.path["user"]
        async with self._database.transaction() as connection:
            await tables.found_user(connection, tenant, user)
            for owner, name in await keys.revoke(connection, tenant, user=user):
                await tables.note(connection, call, owner, "key", name, "revoked")
            await connection.execute(
                "DELETE FROM relations WHERE tenant = %s AND subject = %s", (tenant, f"user:{user}")
            )
            await connection.execute("DELETE FROM users WHERE id = %s", (user,))
            await tables.note(connection, call, tenant, "user", user, "deleted")
        self._wake()

    async def give_role(self, call: Call[Any, None]) -> None:
        """A role is a relation to the tenant."""
        await self._member(call, f"tenant:{call.path['tenant']}", Relation(call.path["role"]), "role")

    async def take_role(self, call: Call[Any, None]) -> None:
        """Not there: nothing to do."""
        await self._member(call, f"tenant:{call.path['tenant']}", Relation(call.path["role"]), "role", away=True)

    async def make_team(self, call: Call[Any, NewTeam]) -> NewTeam:
        """Rights are given to `team:<id>#member`."""
        tenant, team = tables.own(call), call.body
        async with self._database.transaction() as connection:
            await tables.found_tenant(connection, tenant)
            await self._quotas.use(connection, tenant, {"teams": 1})
            try:
                await connection.execute("INSERT INTO teams VALUES (%s, %s, %s)", (tenant, team.id, team.name))
            except UniqueViolation:
                raise ApiError(409, "The tenant has a team with this id.", param="id") from None
            await tables.note(connection, call, tenant, "team", team.id, "created", team)
        return team

    async def teams(self, call: Call[Any, None]) -> list[NewTeam]:
        """Ordered by ID."""
        tenant = tables.own(call)
        async with self._database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await tables.found_tenant(connection, tenant)
            await cursor.execute("SELECT id, name FROM teams WHERE tenant = %s ORDER BY id", (tenant,))
            return [NewTeam(**row) for row in await cursor.fetchall()]

    async def add_member(self, call: Call[Any, None]) -> None:
        """There already: nothing to do."""
        await self._member(call, f"team:{call.path['team']}", Relation.MEMBER, "relation")

    async def drop_member(self, call: Call[Any, None]) -> None:
        """Not there: nothing to do."""
        await self._member(call, f"team:{call.path['team']}", Relation.MEMBER, "relation", away=True)

    async def _member(
        self, call: Call[Any, None], object_: str, relation: Relation, kind: str, *, away: bool = False
    ) -> None:
        tenant, user = tables.own(call), call.path["user"]
        tuple_ = Tuple(object=object_, relation=relation, subject=f"user:{user}")
        if not away:
            rights.role(call.caller, tenant, [tuple_])
        async with self._database.transaction() as connection:
            await tables.found_user(connection, tenant, user)
            if "team" in call.path:
                cursor = await connection.execute(
                    "SELECT 1 FROM teams WHERE tenant = %s AND id = %s", (tenant, call.path["team"])
                )
                if await cursor.fetchone() is None:
                    raise missing("team")
            if not away:
                await self._quotas.use(connection, tenant, {"relations": 1})
            change = relations.delete if away else relations.write
            if await change(connection, tenant, [tuple_]):
                await tables.note(connection, call, tenant, kind, user, "deleted" if away else "created", tuple_)
