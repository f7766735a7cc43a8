"""REST operations of the Billing service."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, cast

from kit import bus, dead_letters, limits, outbox, replicas, rest, rest_app
from kit.database import Connection, Database
from kit.directory import Scope
from kit.errors import ApiError, ErrorType, missing
from kit.in_force import InForce, Replicas
from kit.rest import Call, Model, Moment, Operation
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb
from pydantic import Field

from billing import budgets, erasing, intake, meters, rating, requests, searching

PREFIX = "/v1/billing"
CHANGED = "billing.changed.v1"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Usd = Annotated[Decimal, Field(ge=0, lt=10**9, max_digits=19, decimal_places=10)]
_TENANT = ("tenant", r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", "A tenant's name")
_REQUEST = ("request_id", r"[A-Za-z0-9._-]{1,128}", "A request's ID, from the header x-request-id")
_PERIOD = ("period", r"20\d{2}-(?:0[1-9]|1[0-2])", "A month, such as 2026-11")


class UsageEvent(Model):
    """A CloudEvent of the topic `usage.recorded.v1`."""

    specversion: Annotated[str, Field(pattern=r"^1\.0$")]
    id: Name
    source: Name
    type: Annotated[str, Field(pattern=r"^dev\.cogniforge\.usage\.recorded\.v1$")]
    time: Moment
    subject: Annotated[str, Field(max_length=500)] = ""
    datacontenttype: str = "application/json"
    traceparent: Annotated[str, Field(max_length=55, pattern=r"^[0-9a-f-]*$")] = ""
    data: UsageData


class UsageData(Model):
    """The recorded usage."""

    tenant: Name
    model: Name
    operation: Name
    input_tokens: Annotated[int, Field(ge=0, lt=2**53)]
    output_tokens: Annotated[int, Field(ge=0, lt=2**53)]
    cached: bool = False
    user: Annotated[str, Field(max_length=limits.USER.most, pattern=r"^[^\x00]*$")] = ""
    key: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""
    """ID of the API key."""
    duration_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    status: Annotated[int, Field(ge=0, le=999)] = 0
    request: Annotated[str, Field(max_length=limits.REQUEST_ID.most, pattern=r"^[^\x00]*$")] = ""


class Taken(Model):
    """Number of events that were new."""

    taken: int
    known: int


class Price(Model):
    """A price that is valid from a time on: `usd` per `per` tokens or requests."""

    tenant: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""
    model: Name
    kind: Annotated[str, Field(pattern=r"^(input|output|request)$")]
    usd: Usd
    per: Annotated[int, Field(ge=1, le=10**9)] = 1_000_000
    begins: Moment


class Credit(Model):
    """An amount that is deducted from a tenant's invoice of one month."""

    id: Name
    usd: Annotated[Decimal, Field(gt=0, lt=10**9, max_digits=19, decimal_places=10)]
    period: Annotated[str, Field(pattern=r"^20\d{2}-(0[1-9]|1[0-2])$")]


class Budget(Model):
    """Maximum amount that a tenant may use in a month."""

    usd: Usd


class Entitlement(Model):
    """The rest of a tenant's budget in the current month."""

    budget_usd: str
    spent_usd: str
    left_usd: str
    in_force: bool
    """Whether every replica of the Router enforces this budget; a change takes a few seconds."""
    replicas: Replicas | None
    """Router replicas that enforce the budget; null if it was not yet sent to them or NATS is unavailable."""


class Metered(Model):
    """Query of the meters."""

    tenant: Annotated[str, Field(max_length=200)] = ""
    """The default is the caller's tenant; an operator's key reads all tenants."""
    aggregation: meters.Aggregation
    field: meters.Field
    begin: Moment
    end: Moment
    group: meters.Group = meters.Group.NONE


class Values(Model):
    """Values of the meters."""

    values: list[dict[str, Any]]


class Unpriced(Model):
    """Usage that has no price."""

    model: str
    kind: str


class Invoice(Model):
    """Invoice of one month."""

    tenant: str
    period: str
    currency: str
    lines: list[dict[str, Any]]
    gross_usd: str
    credit_usd: str
    total_cents: int
    unpriced_models: list[str]
    unpriced: tuple[Unpriced, ...] = ()
    number: int | None = None
    issued: datetime | None = None


_NAMED = 10
"""Maximum number of unpriced kinds that an error names; the draft invoice lists all of them."""


def _month(period: str) -> date:
    return date(int(period[:4]), int(period[5:]), 1)


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    own = Api.operations(cast("Api", Api))
    return rest_app.document("Billing", [*own, *dead_letters.operations(PREFIX), *replicas.operations(PREFIX)])


class Api:
    """REST operations on one database."""

    def __init__(self, database: Database, in_force: InForce | None = None) -> None:
        """Without `in_force` (no NATS), no budget is reported as enforced."""
        self._database, self._in_force = database, in_force

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        month = (_TENANT, _PERIOD)
        operators: dict[str, Any] = {"scope": Scope.ADMIN}
        tenants: dict[str, Any] = {"scope": Scope.BILLING, "failures": (404,)}
        return [
            Operation("POST", PREFIX + "/usage", "Count usage.", self.usage, Taken, body=list[UsageEvent],
                      **operators),
            Operation("GET", PREFIX + "/meters", "Read usage; operators read that of all tenants.", self.meters,
                      Values, query=Metered, **tenants),
            Operation("GET", PREFIX + "/requests", "Search requests, newest first.", self.search,
                      searching.FoundRequests, query=searching.Search, **tenants),
            Operation("GET", PREFIX + "/requests/{request_id}", "Get what a request has cost.", self.request,
                      requests.RequestCosts, parameters=(_REQUEST,), **tenants),
            Operation("POST", PREFIX + "/prices", "Set a price from a time on.", self.price, Price, body=Price,
                      status=201, failures=(409,), makes=True, **operators),
            Operation("GET", PREFIX + "/prices", "List the prices.", self.prices, list[Price],
                      scope=Scope.BILLING),
            Operation("POST", PREFIX + "/tenants/{tenant}/credits", "Grant a credit.", self.credit, Credit, body=Credit,
                      status=201, failures=(409,), parameters=(_TENANT,), makes=True, **operators),
            Operation("PUT", PREFIX + "/tenants/{tenant}/budget", "Set a tenant's monthly budget.", self.budget, Budget,
                      body=Budget, parameters=(_TENANT,), failures=(409,), **operators),
            Operation("GET", PREFIX + "/tenants/{tenant}/entitlement", "Get the rest of a budget.", self.entitlement,
                      Entitlement, parameters=(_TENANT,), **tenants),
            Operation("GET", PREFIX + "/tenants/{tenant}/invoices/{period}", "Get an invoice: issued, or a draft.",
                      self.invoice, Invoice, parameters=month, **tenants),
            Operation("POST", PREFIX + "/tenants/{tenant}/invoices/{period}",
                      "Issue an invoice, which is then immutable.", self.issue, Invoice, parameters=month, status=201,
                      failures=(409,), **operators),
        ]  # fmt: skip

    async def usage(self, call: Call[Any, list[UsageEvent]]) -> Taken:
        """Counts each event once, even if it is sent again."""
        if not 1 <= len(call.body) <= 10_000:
            raise ApiError(400, f"send 1 to 10000 events; the request has {len(call.body)}")
        taken = await intake.take(self._database, [event.model_dump(mode="json") for event in call.body])
        return Taken(taken=taken, known=len(call.body) - taken)

    async def meters(self, call: Call[Metered, None]) -> Values:
        """Aggregates usage over a time range."""
        query = call.query
        tenant = query.tenant or ("" if call.caller.operator else call.caller.tenant)
        if tenant:
            rest.own(call.caller, tenant)
        if query.aggregation not in ("COUNT", "UNIQUE") and query.field not in meters.NUMERIC:
            raise ApiError(400, f"{query.aggregation} needs a numeric field", param="field")
        async with self._database.transaction() as connection:
            values = await meters.read(
                connection, tenant, query.aggregation, query.field, query.begin, query.end, query.group
            )
        return Values(values=values)

    async def search(self, call: Call[searching.Search, None]) -> searching.FoundRequests:
        """Requests within at most 31 days. Operators read those of all tenants."""
        query = call.query
        tenant = query.tenant or ("" if call.caller.operator else call.caller.tenant)
        if tenant:
            rest.own(call.caller, tenant)
        async with self._database.transaction() as connection:
            return await searching.find(connection, query, tenant)

    async def request(self, call: Call[Any, None]) -> requests.RequestCosts:
        """Usage, price lines and invoice. Operators read the requests of all tenants."""
        tenant = "" if call.caller.operator else call.caller.tenant
        async with self._database.transaction() as connection:
            found = await requests.find(connection, call.path["request_id"], tenant)
        if not found.requests:
            raise missing("request")
        return found

    async def price(self, call: Call[Any, Price]) -> Price:
        """Adds a price. Prices are never changed, so the history is complete."""
        price = call.body
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (intake.ISSUING,))
            cursor = await connection.execute(
                "SELECT max(period) + interval '1 month' FROM invoices WHERE %s IN ('', tenant)", (price.tenant,)
            )
            row = await cursor.fetchone()
            if row and row[0] and price.begins < row[0].replace(tzinfo=UTC):
                raise ApiError(409, f"Invoices are issued up to {row[0]:%Y-%m-%d}; a new price begins then or later.")
            try:
                await connection.execute(
                    "INSERT INTO prices (tenant, model, kind, usd, per, begins) VALUES (%s, %s, %s, %s, %s, %s)",
                    (price.tenant, price.model, price.kind, price.usd, price.per, price.begins),
                )
            except UniqueViolation:
                raise ApiError(409, "Another price begins at the same time.") from None
            about = f"{price.tenant or 'all'}/{price.model}/{price.kind}"
            # A price for all tenants is recorded as an act of the operator's own tenant.
            await _note(connection, call, price.tenant or call.caller.tenant, "price", about, "created")
        return price

    async def prices(self, call: Call[Any, None]) -> list[Price]:
        """Ordered by time: the tenant's own prices and those for all tenants."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT tenant, model, kind, usd, per, begins FROM prices WHERE %s OR tenant IN ('', %s) "
                "ORDER BY begins, number",
                (call.caller.operator, call.caller.tenant),
            )
            names = ("tenant", "model", "kind", "usd", "per", "begins")
            return [Price(**dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]

    async def credit(self, call: Call[Any, Credit]) -> Credit:
        """Granted once per id."""
        credit, tenant = call.body, call.path["tenant"]
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (intake.ISSUING,))
            if await _issued(connection, tenant, _month(credit.period)):
                raise ApiError(409, f"The invoice of {credit.period} is issued; grant the credit in a later month.")
            cursor = await connection.execute(
                "INSERT INTO credits VALUES (%s, %s, %s, %s) ON CONFLICT (tenant, id) DO NOTHING",
                (tenant, credit.id, credit.usd, _month(credit.period)),
            )
            if not cursor.rowcount:
                found = await connection.execute(
                    "SELECT usd, period FROM credits WHERE tenant = %s AND id = %s", (tenant, credit.id)
                )
                if await found.fetchone() != (credit.usd, _month(credit.period)):
                    raise ApiError(409, "Another credit has this id.")
            else:
                await _note(connection, call, tenant, "credit", credit.id, "created")
        return credit

    async def budget(self, call: Call[Any, Budget]) -> Budget:
        """The Router enforces the budget within a second."""
        async with self._database.transaction() as connection:
            await erasing.refuse(connection, call.path["tenant"])
            await connection.execute(
                "INSERT INTO budgets VALUES (%s, %s) ON CONFLICT (tenant) DO UPDATE SET usd = excluded.usd",
                (call.path["tenant"], call.body.usd),
            )
            await _note(connection, call, call.path["tenant"], "budget", call.path["tenant"], "updated")
        return call.body

    async def entitlement(self, call: Call[Any, None]) -> Entitlement:
        """For the current month."""
        tenant = rest.own(call.caller, call.path["tenant"])
        async with self._database.transaction() as connection:
            cursor = await connection.execute("SELECT usd FROM budgets WHERE tenant = %s", (tenant,))
            row = await cursor.fetchone()
            if row is None:
                raise ApiError(404, "The tenant has no budget.", ErrorType.NOT_FOUND)
            bill = await rating.invoice(connection, tenant, _month(f"{datetime.now(UTC):%Y-%m}"))
        spent = Decimal(bill["gross_usd"]) - Decimal(bill["credit_usd"])
        value, where = await self._in_force.of(budgets.BUCKET, bus.key(tenant)) if self._in_force else (None, None)
        handed = value is not None and budgets.limit(value) == float(row[0])
        return Entitlement(
            budget_usd=f"{row[0]:f}",
            spent_usd=f"{spent:f}",
            left_usd=f"{max(row[0] - spent, 0):f}",
            in_force=handed and where is not None and where.everywhere,
            replicas=where if handed else None,
        )

    async def invoice(self, call: Call[Any, None]) -> Invoice:
        """The issued invoice, or a draft from the events so far."""
        tenant, period = rest.own(call.caller, call.path["tenant"]), _month(call.path["period"])
        async with self._database.transaction() as connection:
            return await _issued(connection, tenant, period) or Invoice(
                **await rating.invoice(connection, tenant, period)
            )

    async def issue(self, call: Call[Any, None]) -> Invoice:
        """Issues the invoice once; a repeat returns the same invoice."""
        tenant, period = call.path["tenant"], _month(call.path["period"])
        if period >= _month(f"{datetime.now(UTC):%Y-%m}"):
            raise ApiError(409, "The month is not over.")
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (intake.ISSUING,))
            if found := await _issued(connection, tenant, period):
                return found
            content = await rating.invoice(connection, tenant, period)
            if unpriced := content["unpriced"]:
                named = ", ".join(f"{one['kind']} of {one['model']}" for one in unpriced[:_NAMED])
                more = f" and {len(unpriced) - _NAMED} more" if len(unpriced) > _NAMED else ""
                message = f"No price is set for {named}{more}. Set one; use a price of 0 for free usage."
                raise ApiError(409, message, code="unpriced_usage")
            cursor = await connection.execute(
                "INSERT INTO invoices (tenant, period, content) VALUES (%s, %s, %s) RETURNING number",
                (tenant, period, Jsonb(content)),
            )
            row = await cursor.fetchone()
            assert row is not None, "an insert returns its row"
            event = {
                "tenant": tenant,
                "invoice": str(row[0]),
                "period": content["period"],
                "total_cents": content["total_cents"],
                "currency": content["currency"],
            }
            await outbox.put(connection, "invoice.issued.v1", "billing", tenant, event)
            issued = await _issued(connection, tenant, period)
            assert issued is not None, "it was just written"
            return issued


async def _note(connection: Connection, call: Call[Any, Model], tenant: str, kind: str, name: str, change: str) -> None:
    """Write a change to the outbox for the audit log: the actor, the object and its new state."""
    data = {"tenant": tenant, "kind": kind, "id": name, "change": change, "actor": call.caller.actor}
    await outbox.put(connection, CHANGED, "billing", tenant, {**data, "after": call.body.model_dump(mode="json")})


async def _issued(connection: Connection, tenant: str, period: date) -> Invoice | None:
    cursor = await connection.execute(
        "SELECT content, number, issued FROM invoices WHERE tenant = %s AND period = %s", (tenant, period)
    )
    row = await cursor.fetchone()
    return Invoice(**row[0], number=row[1], issued=row[2]) if row else None


UsageEvent.model_rebuild()
