"""Contracts of events (Pact, messages): Billing and Audit write down their needs, and publishers are verified."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pact import Pact, Verifier, match

pytestmark = pytest.mark.contract
SOURCES = Path(__file__).resolve().parents[1]
for name in ("kit", "user", "router", "guardrails", "prompt", "retriever", "billing", "audit"):
    sys.path.insert(0, str(SOURCES / name / "src"))

from audit.__main__ import AuditSettings  # noqa: E402
from audit.__main__ import create as create_audit  # noqa: E402
from audit.erasing import Erasure  # noqa: E402
from audit.ledger import Ledger  # noqa: E402
from audit.sealing import Keys  # noqa: E402
from audit.signing import Signing  # noqa: E402
from billing import erasing  # noqa: E402
from billing.__main__ import BillingSettings  # noqa: E402
from billing.__main__ import create as create_billing  # noqa: E402
from guardrails.decisions import Decisions  # noqa: E402
from guardrails.guard import Guard  # noqa: E402
from guardrails.policies import Policies  # noqa: E402
from guardrails.policy import Direction  # noqa: E402
from kit import events, kafka, migrate  # noqa: E402
from kit.bus import Bus  # noqa: E402
from kit.database import Database  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from kit.spill import Spill  # noqa: E402
from kit.tenant_deletion import Deleted, Erased, Erasing  # noqa: E402
from prompt import store  # noqa: E402
from prompt.__main__ import PromptSettings  # noqa: E402
from prompt.__main__ import create as create_prompt  # noqa: E402
from retriever.__main__ import RetrieverSettings  # noqa: E402
from retriever.__main__ import create as create_retriever  # noqa: E402
from router.__main__ import create as create_router  # noqa: E402
from router.control import Control  # noqa: E402
from router.core import Core  # noqa: E402
from router.live import BUCKET, LiveRoutes  # noqa: E402
from router.metering import Metering  # noqa: E402
from router.overrides import Overrides  # noqa: E402
from router.routes import RouteTable  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402
from user import deleting  # noqa: E402
from user.__main__ import UserSettings  # noqa: E402
from user.__main__ import create as create_user  # noqa: E402

from service_images.router.tests.conftest import Running, Target, until  # noqa: E402

KEPT = """
CREATE TABLE public.kept (payload jsonb);
CREATE FUNCTION public.keep() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.kept VALUES (NEW.payload::jsonb); RETURN NEW; END';
CREATE TRIGGER keep AFTER INSERT ON events.outbox FOR EACH ROW EXECUTE FUNCTION public.keep();
"""
"""Record events, since rows of the outbox are deleted at once."""
SHARED: dict[str, Any] = {
    "specversion": "1.0",
    "id": match.regex("a1", regex=r"\S{1,200}"),
    "time": match.regex(
        "2026-10-05T10:00:00.000001Z", regex=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
    ),
}
EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "usage of an answer": (
        "router",
        {
            "source": "/services/router",
            "type": "dev.cogniforge.usage.recorded.v1",
            "data": {
                "tenant": match.str("acme"),
                "model": match.str("m"),
                "operation": match.str("chat"),
                "input_tokens": match.int(3),
                "output_tokens": match.int(3),
                "cached": match.bool(False),
            },
        },
    ),
    "a changed route": (
        "router",
        {
            "source": "/services/router",
            "type": "dev.cogniforge.route.changed.v1",
            "subject": match.str("route/m"),
            "data": {"tenant": match.str("default"), "change": match.str("set"), "after": {"route": match.like({})}},
        },
    ),
    "a text that was redacted": (
        "guardrails",
        {
            "source": "/services/guardrails",
            "type": "dev.cogniforge.guard.decided.v1",
            "data": {"tenant": match.str("acme"), "direction": match.str("input"), "action": match.str("redact")},
        },
    ),
    "a new version of a prompt": (
        "prompt",
        {
            "source": "/services/prompt",
            "type": "dev.cogniforge.prompt.changed.v1",
            "data": {"tenant": match.str("default"), "name": match.str("p"), "change": match.str("version-created")},
        },
    ),
    "a new tenant": (
        "user",
        {
            "source": "/services/user",
            "type": "dev.cogniforge.user.changed.v1",
            "data": {"tenant": match.str("acme"), "kind": match.str("tenant"), "change": match.str("created")},
        },
    ),
    "a document in a store": (
        "retriever",
        {
            "source": "/services/retriever",
            "type": "dev.cogniforge.document.changed.v1",
            "data": {
                "tenant": match.str("default"),
                "store": match.str("vs-1"),
                "document": match.str("file-1"),
                "change": match.str("added"),
            },
        },
    ),
    "a budget": (
        "billing",
        {
            "source": "/services/billing",
            "type": "dev.cogniforge.billing.changed.v1",
            "data": {
                "tenant": match.str("acme"),
                "kind": match.str("budget"),
                "change": match.str("updated"),
                "actor": match.str("key:default"),
                "after": match.like({}),
            },
        },
    ),
    "an invoice": (
        "billing",
        {
            "source": "/services/billing",
            "type": "dev.cogniforge.invoice.issued.v1",
            "data": {
                "tenant": match.str("acme"),
                "invoice": match.str("1"),
                "total_cents": match.int(100),
                "currency": match.regex("USD", regex="[A-Z]{3}"),
            },
        },
    ),
}
DELETIONS = {
    "a deleted tenant": (
        "user",
        {
            "source": "/services/user",
            "type": "dev.cogniforge.tenant.deleted.v1",
            "data": {"tenant": match.str("acme")},
        },
    ),
    "an erased tenant": (
        "prompt",
        {
            "source": "/services/prompt",
            "type": "dev.cogniforge.tenant.erased.v1",
            "data": {"tenant": match.str("acme"), "service": match.str("prompt")},
        },
    ),
}
READERS: dict[str, tuple[str, ...]] = {
    "billing": ("usage of an answer", "a deleted tenant"),
    "audit": (*EVENTS, "a deleted tenant"),
    "prompt": ("a deleted tenant",),
    "user": ("an erased tenant",),
}
EVENTS |= DELETIONS


class Rooms:
    """Services with their own databases."""

    def __init__(self, service_database: Callable[[str], dict[str, Any]], server: Any, nats: Any, folder: Path) -> None:
        self._database, self._server, self.nats, self.folder = service_database, server, nats, folder
        self.settings: dict[str, dict[str, Any]] = {}

    def url(self, name: str) -> str:
        """Settings of a service's database."""
        return self._server.url(name)

    def client(self, name: str, settings: type[Any], create: Callable[[Any], Any], **more: Any) -> TestClient:
        """Start a service, and record its outbox if it has one."""
        self.settings[name] = self._database(name)
        made = settings(**self.settings[name], **more)
        if name == "retriever":
            self._server.make_collection()
        migrate.migrate(name, made.database(pooled=False))
        with psycopg.connect(self._server.url(name), autocommit=True) as root:
            root.execute(KEPT)
        return TestClient(create(made), raise_server_exceptions=False)

    def published(self, name: str, kind: str) -> dict[str, Any]:
        """The first published event of a kind."""
        with psycopg.connect(self._server.url(name)) as root:
            rows = root.execute("SELECT payload FROM public.kept").fetchall()
        return next(row[0] for row in rows if row[0]["type"].endswith(kind))


@pytest.fixture
def rooms(
    service_database: Callable[[str], dict[str, Any]], postgres_server: Any, nats_server: Any, tmp_path: Path
) -> Rooms:
    return Rooms(service_database, postgres_server, nats_server, tmp_path)


def take(rooms: Rooms, reader: str) -> Iterator[Callable[[str | bytes | None, Any], None]]:
    """The reader itself processes each event, as from Kafka."""
    if reader in ("prompt", "user"):
        yield partial(_take_deletion, rooms, reader)
        return
    if reader == "billing":
        client, path, done = rooms.client("billing", BillingSettings, create_billing), "/v1/billing/usage", 200
    else:
        secrets = {"signing_secret": "sign", "sealing_secret": "seal"}
        client, path, done = rooms.client("audit", AuditSettings, create_audit, **secrets), "/v1/audit/events", 201
    with client:

        def handler(body: str | bytes | None, _: Any) -> None:
            if b"tenant.deleted.v1" in (body.encode() if isinstance(body, str) else body or b""):
                _take_erasure(rooms, reader, body)
                return
            answer = client.post(path, json=[json.loads(body or b"")])
            assert answer.status_code == done, answer.text
            assert answer.json() in ({"taken": 1, "known": 0}, {"numbers": answer.json().get("numbers")})

        yield handler


def _take_erasure(rooms: Rooms, reader: str, body: str | bytes | None) -> None:
    """Process an event like the consumer of Billing or Audit, after its reader."""

    async def run() -> None:
        database = Database(ServiceSettings(name=reader, **rooms.settings[reader]))
        await database.open()
        keys, signing = Keys("seal"), Signing("a", Ed25519PrivateKey.generate())
        ways = {"billing": erasing.erase, "audit": Erasure(database, Ledger(database, keys, signing), keys).erase}
        await Erasing(database, reader, ways[reader]).handle([kafka.reader(Deleted)(body or b"")])
        await database.close()

    asyncio.run(run())
    assert rooms.published(reader, "tenant.erased.v1")["data"] == {"tenant": "acme", "service": reader}


def _take_deletion(rooms: Rooms, reader: str, body: str | bytes | None, _: Any) -> None:
    """Process an event like the service's consumer, after its reader."""

    async def handle(database: Database, event: dict[str, Any]) -> None:
        if reader == "prompt":
            await Erasing(database, "prompt", store.erase).handle([event])
        else:
            async with database.transaction() as connection:
                await deleting.acknowledge(connection, event["data"]["tenant"], event["data"]["service"])

    async def run() -> None:
        database = Database(settings)
        await database.open()
        await handle(database, kafka.reader(Deleted if reader == "prompt" else Erased)(body or b""))
        await database.close()

    kinds: dict[str, Any] = {"prompt": (PromptSettings, create_prompt), "user": (UserSettings, create_user)}
    rooms.client(reader, *kinds[reader])
    settings = kinds[reader][0](**rooms.settings[reader])
    with psycopg.connect(rooms.url(reader), autocommit=True) as root:
        if reader == "prompt":
            root.execute("INSERT INTO prompts (tenant, name, type) VALUES ('acme', 'p', 'text')")
        else:
            root.execute("INSERT INTO deleted_tenants (id, waiting) VALUES ('acme', '{prompt}')")
        asyncio.run(run())
        if reader == "prompt":
            assert root.execute("SELECT count(*) FROM prompts").fetchone() == (0,)
            assert rooms.published("prompt", "tenant.erased.v1")["data"] == {"tenant": "acme", "service": "prompt"}
        else:
            assert root.execute("SELECT waiting FROM deleted_tenants").fetchone() == ([],)


def written(rooms: Rooms, reader: str, folder: Path) -> list[Path]:
    """A pact with each publisher of the reader's events."""
    tellers = dict.fromkeys(EVENTS[name][0] for name in READERS[reader])
    for handler in take(rooms, reader):
        for teller in tellers:
            pact = Pact(reader, teller).with_specification("V4")
            for name in READERS[reader]:
                if EVENTS[name][0] == teller:
                    pact.upon_receiving(name, "Async").with_body(SHARED | EVENTS[name][1], "application/json")
            pact.verify(handler, "Async")
            pact.write_file(folder)
    return [folder / f"{reader}-{teller}.json" for teller in tellers]


def _metering(rooms: Rooms) -> Metering:
    """Metering without Kafka: events of the Router wait in memory."""
    return Metering({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, Spill(rooms.folder / "usage", 2**20))


def tell_usage(rooms: Rooms) -> dict[str, Any]:
    """The Router answers a request."""
    target = Target("a")
    router = Running({"routes": [{"model": "m", "targets": [{"upstream": target.url}]}]})
    router.core.metering = metering = _metering(rooms)
    try:
        assert router.ask().status_code == 200
        until(lambda: metering._waiting)  # the request is settled after the answer
        return json.loads(metering._waiting[0][2])
    finally:
        router.stop()
        target.stop()


def tell_route(rooms: Rooms) -> dict[str, Any]:
    """An operator overrides a model's route."""
    rooms.nats.make_buckets(BUCKET)
    route = {"model": "m", "upstream": "http://127.0.0.1:1"}
    core = Core(RouteTable.model_validate({"routes": [route]}))
    core.metering = metering = _metering(rooms)
    overrides = Overrides(core.table, core.reload)
    live = LiveRoutes(rooms.nats.url, core, overrides, overrides.rebase)
    control = Control(core, overrides, live, Bus(ServiceSettings(name="router", nats_url=rooms.nats.url)))
    with TestClient(create_router(core, live, control=control)) as client:
        answer = client.put("/v1/admin/routes/m", json={"route": {**route, "attempts": 2}})
        assert answer.status_code == httpx.codes.OK, answer.text
    return json.loads(metering._waiting[0][2])


def tell_decision(_: Rooms) -> dict[str, Any]:
    """Guardrails redacts a text."""
    published: list[dict[str, Any]] = []
    policies = Policies()
    policies.take("acme", json.dumps({"packs": ["gdpr"]}).encode())
    verdict = Guard().check("mail ann@example.com", policies.of("acme"), Direction.INPUT)
    kinds = Counter(finding.kind for finding in verdict.findings)
    Decisions(lambda _topic, _key, event: published.append(event)).tell("acme", Direction.INPUT, verdict.action, kinds)
    return published[0]


def tell_prompt(rooms: Rooms) -> dict[str, Any]:
    """A user creates a version."""
    with rooms.client("prompt", PromptSettings, create_prompt) as client:
        assert client.post("/v1/prompts", json={"name": "p", "prompt": "x"}).status_code == 201
    return rooms.published("prompt", "prompt.changed.v1")


def tell_tenant(rooms: Rooms) -> dict[str, Any]:
    """The operator creates a tenant."""
    key = "cf-operator"
    with rooms.client("user", UserSettings, create_user, installation_key=key) as client:
        while client.get("/readyz").status_code != httpx.codes.OK:
            pass
        answer = client.post("/v1/tenants", json={"id": "acme"}, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 201, answer.text
    return rooms.published("user", "user.changed.v1")


def tell_deleted_tenant(rooms: Rooms) -> dict[str, Any]:
    """The operator deletes a tenant."""
    key = "cf-operator"
    with rooms.client("user", UserSettings, create_user, installation_key=key) as client:
        while client.get("/readyz").status_code != httpx.codes.OK:
            pass
        client.headers["authorization"] = f"Bearer {key}"
        assert client.post("/v1/tenants", json={"id": "acme"}).status_code == 201
        assert client.delete("/v1/tenants/acme").status_code == 204
    return rooms.published("user", "tenant.deleted.v1")


def tell_erased_tenant(rooms: Rooms) -> dict[str, Any]:
    """Prompt has erased a tenant."""
    event = events.event("tenant.deleted.v1", "user", "acme", {"tenant": "acme"})
    _take_deletion(rooms, "prompt", json.dumps(event), None)
    return rooms.published("prompt", "tenant.erased.v1")


def tell_document(rooms: Rooms) -> dict[str, Any]:
    """A user adds a file to a store."""
    with tempfile.TemporaryDirectory() as objects:
        settings = {"objects_endpoint": f"file://{objects}"}
        with rooms.client("retriever", RetrieverSettings, partial(create_retriever, embedder=Even()), **settings) as c:
            file = c.post("/v1/files", files={"file": ("a.txt", "Cats sleep.")}, data={"purpose": "assistants"})
            store = c.post("/v1/vector_stores", json={"name": "s"}).json()["id"]
            path = f"/v1/vector_stores/{store}/files"
            assert c.post(path, json={"file_id": file.json()["id"]}).status_code == httpx.codes.OK
            deadline = time.monotonic() + 30
            while (shown := c.get(f"{path}/{file.json()['id']}").json())["status"] != "completed":
                assert time.monotonic() < deadline, shown
                time.sleep(0.02)
    return rooms.published("retriever", "document.changed.v1")


class Even:
    """Constant vectors, since nothing is searched here."""

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        """One vector per text."""
        return [np.full(384, 384**-0.5, dtype=np.float32) for _ in texts]


def tell_invoice(rooms: Rooms) -> dict[str, Any]:
    """The operator issues a month's invoice."""
    with rooms.client("billing", BillingSettings, create_billing) as client:
        price = {"tenant": "", "model": "*", "kind": "input", "usd": "2", "begins": "2026-01-01T00:00:00Z"}
        assert client.post("/v1/billing/prices", json=price).status_code == 201
        answer = client.post("/v1/billing/tenants/acme/invoices/2026-01")
        assert answer.status_code == httpx.codes.CREATED, answer.text
    return rooms.published("billing", "invoice.issued.v1")


def tell_budget(rooms: Rooms) -> dict[str, Any]:
    """The operator sets a tenant's budget."""
    with rooms.client("billing", BillingSettings, create_billing) as client:
        answer = client.put("/v1/billing/tenants/acme/budget", json={"usd": "5"})
        assert answer.status_code == httpx.codes.OK, answer.text
    return rooms.published("billing", "billing.changed.v1")


TELLERS: dict[str, Callable[[Rooms], dict[str, Any]]] = {
    "usage of an answer": tell_usage,
    "a changed route": tell_route,
    "a text that was redacted": tell_decision,
    "a new version of a prompt": tell_prompt,
    "a new tenant": tell_tenant,
    "a document in a store": tell_document,
    "an invoice": tell_invoice,
    "a deleted tenant": tell_deleted_tenant,
    "an erased tenant": tell_erased_tenant,
    "a budget": tell_budget,
}


@pytest.mark.parametrize("reader", sorted(READERS))
def test_publishers_keep_the_contracts_of_their_readers(rooms: Rooms, reader: str, tmp_path: Path) -> None:
    for file in written(rooms, reader, tmp_path):
        teller = file.stem.partition("-")[2]
        published = {name: TELLERS[name](rooms) for name in READERS[reader] if EVENTS[name][0] == teller}
        handlers: Any = {
            name: {"contents": json.dumps(event).encode(), "content_type": "application/json", "metadata": None}
            for name, event in published.items()
        }
        Verifier(teller).add_source(str(file)).message_handler(handlers).verify()


@pytest.mark.parametrize("name", sorted(TELLERS))
def test_published_events_match_their_schema(rooms: Rooms, name: str) -> None:
    event = TELLERS[name](rooms)
    jsonschema.validate(event, events.schema(event["type"].removeprefix(events.TYPE_PREFIX)))


def test_a_teller_that_changes_is_found(rooms: Rooms, tmp_path: Path) -> None:
    file = next(file for file in written(rooms, "billing", tmp_path) if file.stem == "billing-router")
    event = tell_usage(rooms)
    event["data"]["input_tokens"] = str(event["data"]["input_tokens"])
    changed: Any = {"contents": json.dumps(event).encode(), "content_type": "application/json", "metadata": None}
    verifier = Verifier("router").add_source(str(file)).message_handler({"usage of an answer": changed})
    with pytest.raises(RuntimeError):
        verifier.verify()
