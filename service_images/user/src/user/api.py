"""REST operations of the User service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from kit import arrival, bus, dead_letters, publishing, replicas, rest, rest_app
from kit.database import Database
from kit.directory import Grant, Scope
from kit.errors import ApiError, ErrorType, missing
from kit.in_force import InForce
from kit.quotas import Quotas
from kit.rest import Call, Nothing, Operation
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from user import deleting, keys, relations, rights, tables
from user.login import TOKEN_SESSION, Identity, Logins
from user.models import (
    Answer,
    Deletion,
    IssuedKey,
    Key,
    Limits,
    Listing,
    Login,
    LoginFrom,
    NewKey,
    NewPolicy,
    NewTeam,
    NewTenant,
    NewUser,
    Objects,
    Policy,
    ProviderToken,
    Question,
    Relations,
    Revocation,
    Tenant,
    User,
)
from user.people import People
from user.publishing import TenantPublisher

PREFIX = "/v1/user"
"""Scope of operations on the service itself."""
_TENANT = ("tenant", r"[a-z0-9][a-z0-9-]{0,62}", "A tenant's id")
_USER = ("user", r"[0-9a-f]{32}", "A user's id")
_TEAM = ("team", r"[a-z0-9][a-z0-9-]{0,62}", "A team's id")
_KEY = ("key", r"[0-9a-f]{32}", "A key's id")
_ROLE = ("role", "owner|admin|editor|viewer|member", "The user's role in the tenant")
ADMIN, MANAGE, ANY = Scope.ADMIN, Scope.MANAGE, ""


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    own = Api.operations(cast("Api", Api))
    return rest_app.document("User", [*own, *dead_letters.operations(PREFIX), *replicas.operations(PREFIX)])


class Api(People):
    """REST operations on one database."""

    def __init__(
        self,
        database: Database,
        publisher: TenantPublisher | None,
        logins: Logins | None,
        erased_by: Sequence[str] = (),
        in_force: InForce | None = None,
        quotas: Quotas = tables.QUOTAS,
        arrival: str = "",
    ) -> None:
        """`erased_by`: services that confirm the deletion of a tenant. Without NATS nothing is reported as enforced.

        `arrival`: path that receives browsers after a login; empty: no service has pages.
        """
        self._in_force, self._quotas, self._arrival = in_force, quotas, arrival
        self._database, self._publisher, self._logins, self._erased_by = database, publisher, logins, tuple(erased_by)

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        one, tenants = (_TENANT,), "/v1/tenants/{tenant}"
        gone: dict[str, Any] = {"status": 204, "failures": (404,), "answer": Nothing}
        new: dict[str, Any] = {"status": 201, "failures": (404, 409, 429), "makes": True}
        given: dict[str, Any] = gone | {"failures": (404, 429)}
        return [
            Operation("POST", "/v1/tenants", "Create a tenant.", self.make_tenant, Tenant, body=NewTenant,
                      scope=ADMIN, status=201, failures=(409,), makes=True),
            Operation("GET", "/v1/tenants", "List all tenants.", self.tenants, list[Tenant], scope=ADMIN),
            Operation("GET", tenants, "Get a tenant.", self.tenant, Tenant, parameters=one, scope=ANY, failures=(404,)),
            Operation("PUT", tenants, "Set a tenant's limits.", self.limit, Tenant, body=Limits, parameters=one,
                      scope=ADMIN, failures=(404,)),
            Operation("DELETE", tenants, "Delete a tenant and all its data; its id is never reused.",
                      self.drop_tenant, parameters=one, scope=ADMIN, **gone),
            Operation("GET", f"{tenants}/deletion", "Get the progress of a tenant's deletion.",
                      self.deletion, Deletion, parameters=one, scope=ADMIN, failures=(404,)),
            Operation("PUT", f"{tenants}/policy", "Set a tenant's guard policy.", self.set_policy, Policy,
                      body=NewPolicy, parameters=one, scope=MANAGE, failures=(404,)),
            Operation("GET", f"{tenants}/policy", "Get a tenant's guard policy and its state.", self.policy,
                      Policy, parameters=one, scope=MANAGE, failures=(404,)),
            Operation("POST", f"{tenants}/users", "Invite a user.", self.make_user, User, body=NewUser,
                      parameters=one, scope=MANAGE, **new),
            Operation("GET", f"{tenants}/users", "List a tenant's users.", self.users, list[User], parameters=one,
                      scope=MANAGE, failures=(404,)),
            Operation("DELETE", tenants + "/users/{user}", "Delete a user with their keys and rights.",
                      self.drop_user, parameters=(_TENANT, _USER), scope=MANAGE, **gone),
            Operation("PUT", tenants + "/users/{user}/roles/{role}", "Grant a role to a user.", self.give_role,
                      parameters=(_TENANT, _USER, _ROLE), scope=MANAGE, **given),
            Operation("DELETE", tenants + "/users/{user}/roles/{role}", "Revoke a role.", self.take_role,
                      parameters=(_TENANT, _USER, _ROLE), scope=MANAGE, **gone),
            Operation("POST", f"{tenants}/teams", "Create a team.", self.make_team, NewTeam, body=NewTeam,
                      parameters=one, scope=MANAGE, **new),
            Operation("GET", f"{tenants}/teams", "List a tenant's teams.", self.teams, list[NewTeam], parameters=one,
                      scope=MANAGE, failures=(404,)),
            Operation("PUT", tenants + "/teams/{team}/members/{user}", "Add a member.", self.add_member,
                      parameters=(_TENANT, _TEAM, _USER), scope=MANAGE, **given),
            Operation("DELETE", tenants + "/teams/{team}/members/{user}", "Remove a member.", self.drop_member,
                      parameters=(_TENANT, _TEAM, _USER), scope=MANAGE, **gone),
            Operation("POST", f"{tenants}/keys", "Create an API key; it is shown only once.", self.make_key,
                      IssuedKey, body=NewKey, parameters=one, scope=MANAGE, **new),
            Operation("GET", f"{tenants}/keys", "List a tenant's keys, newest first.", self.keys, list[Key],
                      parameters=one, scope=MANAGE, failures=(404,)),
            Operation("DELETE", tenants + "/keys/{key}", "Revoke a key and those derived from it, within a "
                      "second.", self.revoke, query=Revocation, parameters=(_TENANT, _KEY), scope=MANAGE, **gone),
            Operation("POST", f"{tenants}/relations", "Change relations in one transaction.", self.relate, Relations,
                      body=Relations, parameters=one, scope=MANAGE, failures=(404, 429), makes=True),
            Operation("GET", "/v1/self", "Get the rights of the caller's key.", self.myself, scope=ANY),
            Operation("POST", "/v1/check", "Check whether a subject has a relation to an object.", self.check, Answer,
                      body=Question, scope=ANY, failures=(404,)),
            Operation("POST", "/v1/list-objects", "List the objects that a subject is related to.", self.list_objects,
                      Objects, body=Listing, scope=ANY, failures=(404,)),
            Operation("GET", "/v1/login", "Redirect to the identity provider.", self.login, query=LoginFrom, status=302,
                      failures=(404,)),
            Operation("GET", "/v1/callback", "Complete a login; the result is a short-lived key.", self.callback,
                      IssuedKey, query=Login, failures=(401, 403, 404, 429)),
            Operation("GET", "/v1/login/end", "Redirect to the identity provider's page that ends a login.",
                      self.end_login, status=302, failures=(404,)),
            Operation("POST", "/v1/login/token", "Exchange an access token of the identity provider for a short-lived "
                      "key.", self.exchange, IssuedKey, body=ProviderToken, failures=(401, 403, 404, 429)),
        ]  # fmt: skip

    async def authenticate(self, key: str) -> Grant:
        """Reads the tables, so a key works immediately after its creation."""
        async with self._database.transaction() as connection:
            return await keys.find(connection, key)

    def _wake(self) -> None:
        if self._publisher is not None:
            self._publisher.wake()

    # --- tenants ----------------------------------------------------------------------------------

    async def make_tenant(self, call: Call[Any, NewTenant]) -> Tenant:
        """The Routers are notified at once."""
        if self._publisher is not None and await self._publisher.marked(call.body.id):
            raise deleting.used()
        async with self._database.transaction() as connection:
            await deleting.never_deleted(connection, call.body.id)
            try:
                await connection.execute("INSERT INTO tenants (id) VALUES (%s)", (call.body.id,))
            except UniqueViolation:
                raise ApiError(409, "A tenant with this id already exists.", param="id") from None
            made = await tables.limit(connection, call.body.id, call.body)
            await tables.note(connection, call, call.body.id, "tenant", call.body.id, "created", call.body)
        self._wake()
        return made

    async def tenants(self, _: Call[Any, None]) -> list[Tenant]:
        """Ordered by id."""
        async with self._database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(f"SELECT {tables.COLUMNS} FROM tenants ORDER BY id")
            return [Tenant(**row) for row in await cursor.fetchall()]

    async def tenant(self, call: Call[Any, None]) -> Tenant:
        """The caller's own tenant; operators may read any."""
        async with self._database.transaction() as connection:
            return await tables.found_tenant(connection, tables.own(call))

    async def limit(self, call: Call[Any, Limits]) -> Tenant:
        """Enforced everywhere within a second."""
        async with self._database.transaction() as connection:
            found = await tables.limit(connection, call.path["tenant"], call.body)
            await tables.note(connection, call, found.id, "tenant", found.id, "updated", call.body)
        self._wake()
        return found

    async def drop_tenant(self, call: Call[Any, None]) -> None:
        """Its keys are invalid from now on."""
        tenant = call.path["tenant"]
        if tenant == call.caller.tenant:
            raise ApiError(409, "A tenant cannot delete itself; use a key of another tenant.")
        async with self._database.transaction() as connection:
            await tables.found_tenant(connection, tenant)
            for owner, name in await deleting.delete(connection, tenant, call.caller.actor, self._erased_by):
                await tables.note(connection, call, owner, "key", name, "revoked")
            # Recorded for the operator's own tenant: the audit entries of the deleted tenant are shredded.
            await tables.note(connection, call, call.caller.tenant, "tenant", tenant, "deleted")
        self._wake()

    async def deletion(self, call: Call[Any, None]) -> Deletion:
        """The id is never reused, so that no new tenant can reach another's leftovers."""
        async with self._database.transaction() as connection:
            return await deleting.found_deletion(connection, call.path["tenant"])

    async def set_policy(self, call: Call[Any, NewPolicy]) -> Policy:
        """Guardrails receives the policy within a second."""
        tenant = tables.own(call)
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "UPDATE tenants SET policy = %s WHERE id = %s", (Jsonb(call.body.content), tenant)
            )
            if not cursor.rowcount:
                raise missing("tenant")
            await publishing.changed(connection, tables.POLICIES, bus.key(tenant))
            await tables.note(connection, call, tenant, "policy", tenant, "updated", call.body)
            found = await tables.found_policy(connection, tenant)
        self._wake()
        return found

    async def policy(self, call: Call[Any, None]) -> Policy:
        """The policy as it was sent, and whether all replicas of Guardrails apply it."""
        tenant = tables.own(call)
        async with self._database.transaction() as connection:
            found = await tables.found_policy(connection, tenant)
        if self._in_force is None or not found.in_force:
            return found
        value, where = await self._in_force.of(tables.POLICIES, bus.key(tenant))
        unchanged = found.policy is None and value is None
        everywhere = where is not None and (where.everywhere or (unchanged and not where.behind))
        return found.model_copy(update={"in_force": everywhere, "replicas": where})

    # --- keys -------------------------------------------------------------------------------------

    async def make_key(self, call: Call[Any, NewKey]) -> IssuedKey:
        """Known to every replica within a second. A key cannot have more rights than the key that creates it."""
        tenant, wanted = tables.own(call), rights.key(call.caller, call.body)
        async with self._database.transaction() as connection:
            await tables.found_tenant(connection, tenant)
            if wanted.user:
                await tables.found_user(connection, tenant, wanted.user)
            await self._quotas.use(connection, tenant, {"keys": 1})
            await keys.alive(connection, call.caller.id)
            made = await keys.issue(connection, tenant, wanted, maker=call.caller.id, client=call.caller.client)
            await tables.note(
                connection, call, tenant, "key", made.id, "created", Key(**made.model_dump(exclude={"key"}))
            )
        self._wake()
        return made

    async def keys(self, call: Call[Any, None]) -> list[Key]:
        """Without the secrets."""
        tenant = tables.own(call)
        async with self._database.transaction() as connection:
            await tables.found_tenant(connection, tenant)
            return await keys.listed(connection, tenant)

    async def revoke(self, call: Call[Revocation, None]) -> None:
        """Permanent, including all keys derived from it, unless the request keeps them."""
        tenant, key = tables.own(call), call.path["key"]
        async with self._database.transaction() as connection:
            cursor = await connection.execute("SELECT 1 FROM keys WHERE tenant = %s AND id = %s", (tenant, key))
            if await cursor.fetchone() is None:
                raise missing("key")
            for owner, name in await keys.revoke(connection, tenant, made=call.query.made, id=key):
                await tables.note(connection, call, owner, "key", name, "revoked")
        self._wake()

    # --- relations --------------------------------------------------------------------------------

    async def relate(self, call: Call[Any, Relations]) -> Relations:
        """Returns the relations that did not exist before."""
        tenant, wanted = tables.own(call), call.body
        rights.role(call.caller, tenant, wanted.writes)
        async with self._database.transaction() as connection:
            await tables.found_tenant(connection, tenant)
            if wanted.writes:
                await self._quotas.use(connection, tenant, {"relations": len(wanted.writes)})
            written = await relations.write(connection, tenant, wanted.writes)
            deleted = await relations.delete(connection, tenant, wanted.deletes)
            for change, tuples in (("created", written), ("deleted", deleted)):
                for tuple_ in tuples:
                    await tables.note(connection, call, tenant, "relation", tuple_.object, change, tuple_)
        return Relations(writes=written, deletes=deleted)

    async def myself(self, call: Call[Any, None]) -> dict[str, Any]:
        """Lets a client find out its own rights."""
        caller = call.caller
        acting = {"client": caller.client} if caller.client else {}
        return {"tenant": caller.tenant, "key": caller.id, "user": caller.user, "scopes": list(caller.scopes), **acting}

    async def check(self, call: Call[Any, Question]) -> Answer:
        """Follows teams, stronger relations and parents."""
        return await self.checked(call.caller, call.body)

    async def checked(self, caller: Grant, question: Question) -> Answer:
        """Answers for the tenant of `caller`. Raises ApiError(404) for an object of another tenant."""
        rest.own(caller, question.tenant)
        async with self._database.transaction() as connection:
            return Answer(allowed=await relations.check(connection, question))

    async def list_objects(self, call: Call[Any, Listing]) -> Objects:
        """Consistent with `check` for each object."""
        return await self.listed(call.caller, call.body)

    async def listed(self, caller: Grant, listing: Listing) -> Objects:
        """Answers for the tenant of `caller`. Raises ApiError(404) for an object of another tenant."""
        rest.own(caller, listing.tenant)
        async with self._database.transaction() as connection:
            return Objects(objects=await relations.objects(connection, listing))

    # --- logins -----------------------------------------------------------------------------------

    def _provider(self) -> Logins:
        """The identity provider. Raises ApiError(404) if there is none."""
        if self._logins is None:
            raise ApiError(404, "No identity provider is configured.", ErrorType.NOT_FOUND)
        return self._logins

    async def login(self, call: Call[LoginFrom, None]) -> Any:
        """Authorization code flow with PKCE."""
        return await self._provider().begin(call.query.tenant, arrive=call.query.arrive and bool(self._arrival))

    async def callback(self, call: Call[Login, None]) -> Any:
        """Returns a key for the user who has logged in, or sends the browser with it to the pages it came from."""
        logins = self._provider()
        arrives = bool(self._arrival) and logins.arrives(call.request.cookies)
        try:
            identity = await logins.identity(call.query, call.request.cookies)
            made = await self._key_of(call, identity, logins.expiry())
        except ApiError:
            if arrives:
                return arrival.send(self._arrival)
            raise
        return arrival.send(self._arrival, made.key) if arrives else made

    async def end_login(self, call: Call[Any, None]) -> Any:
        """The provider asks the person first. Keys of logins stay valid until they expire or are revoked."""
        return await self._provider().end()

    async def exchange(self, call: Call[Any, ProviderToken]) -> IssuedKey:
        """Returns a key for the person to whom the provider gave the token, or for the program that acts for them."""
        logins = self._provider()
        identity = await logins.of_token(call.body.token, call.body.tenant)
        expires = logins.expiry(TOKEN_SESSION)
        return await self._key_of(call, identity, min(expires, identity.expires or expires))

    async def _key_of(self, call: Call[Any, Any], identity: Identity, expires: datetime) -> IssuedKey:
        """A key with the rights of the person's roles."""
        async with self._database.transaction() as connection:
            user, tenant = await tables.recognized(connection, identity)
            await self._quotas.use(connection, tenant, {"keys": 1})
            scopes = rights.delegated(identity, await rights.of_login(connection, tenant, user, identity.groups))
            wanted = NewKey(name="login", scopes=scopes, user=user, expires=expires)
            made = await keys.issue(connection, tenant, wanted, client=identity.client)
            await tables.note(
                connection, call, tenant, "key", made.id, "created", Key(**made.model_dump(exclude={"key"}))
            )
        self._wake()
        return made
