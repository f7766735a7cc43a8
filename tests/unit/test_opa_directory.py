"""OPA as a client of NATS with the platform's accounts: its login reads the directory of keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats

from components.data.nats import OWNER
from components.data.nats_inputs import NatsAccount
from components.data.needs import nats_account
from components.security import opa
from components.services.record import KEYS_BUCKET
from tests import opa_server
from tests.opa_server import bundle, configuration
from tests.unit.test_nats_accounts import SERVICES, Server
from tests.waiting import until


def test_opa_follows_the_directory_with_its_own_login_and_again_after_a_restart_of_nats(tmp_path: Path) -> None:
    intents = {**SERVICES, opa.DATA.name: NatsAccount(**nats_account(opa.DATA))}
    folder = tmp_path / "nats"
    folder.mkdir()
    server = Server(folder, intents)
    asyncio.run(_bucket(server))
    password = tmp_path / "password"
    password.write_text(f"{server.passwords[opa.DATA.name]}\n")
    opa_server.put(tmp_path, bundle(configuration()))
    try:
        login = (f"-nats={server.url}", f"-nats-password-file={password}")
        with opa_server.serving(tmp_path, *login) as running:
            until(lambda: "opa_directory_away 0" in running.metrics(), 20, running.log.read_text)
            server.kill()
            until(lambda: "opa_directory_away 1" in running.metrics(), 20, running.log.read_text)
            server.start()
            until(lambda: "opa_directory_away 0" in running.metrics(), 20, running.log.read_text)
    finally:
        server.kill()


async def _bucket(server: Server) -> None:
    connection = await nats.connect(server.url, user=OWNER, password=server.passwords[OWNER])
    store = await connection.jetstream().create_key_value(bucket=KEYS_BUCKET)
    await store.put("k.00", b'{"tenant": "acme"}')
    await connection.close()
