"""A part goes from an older pin to the present one and back, and its volume grows: what it holds is there all the time.

In an environment of its own beside the local one, from copies of the project: each is a release with its own pin.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import nats
import pytest
import yaml
from kubernetes import client
from nats.js.kv import KeyValue

from cli import local_environment
from local import paths
from local.toolchain import shim
from tests.e2e.test_release import Checkout

pytestmark = pytest.mark.e2e
OLDER, NEWER = "2.14.6", "2.15.1"
NAMESPACE, STACK, BUCKET = "drill", "local-drill", "check"
Found = TypeVar("Found")


class Release(Checkout):
    """A copy of the project with one version of NATS, which makes the drill's environment on the local node."""

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder)
        own = shim.environment()
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PATH"):
            self._env.pop(name, None)
            if name in own:
                self._env[name] = own[name]
        (self.folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(
            yaml.safe_dump({"config": {"cogniforge:platform": configuration()}})
        )
        if version == OLDER:
            pins = Path(__file__).with_name("older") / f"nats-{OLDER}.lock"
            (self.folder / "service_images/nats/requirements.lock").write_bytes(pins.read_bytes())
            self.lock.write_text(
                self.lock.read_text().replace(f"nats: {{version: {NEWER}", f"nats: {{version: {OLDER}")
            )

    def up(self) -> None:
        """Make it so."""
        self.forge("up", "-s", STACK)


def configuration(storage: str = "256Mi") -> dict[str, Any]:
    """The smallest environment with a server that keeps data."""
    small = {"cpu": "20m", "memory": "192Mi"}
    return {
        "environment": "local",
        "owner": "the drill",
        "cluster": {"kind": "local", "namespace": NAMESPACE},
        "images": {"source": "local-build"},
        "gateway": {"hosts": ["localhost"], "port": 8448, "resources": small},
        "models": [{"name": "demo", "resources": small}],
        "services": {"router": {"resources": small}},
        "data": {
            "destroyData": True,
            "nats": {"replicas": 1, "storage": storage, "resources": {"cpu": "20m", "memory": "64Mi"}},
        },
    }


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Release]:
    """The release before, running. The files that lead to the local environment are put back in the end."""
    access = {file: file.read_bytes() for file in (local_environment.authority_file(), local_environment.key_file())}
    made = Release(tmp_path_factory.mktemp("older"), OLDER)
    try:
        made.up()
        yield made
    finally:
        made.forge("destroy", "-s", STACK, check=False)
        for file, content in access.items():
            paths.write_private(file, content)
    names = {n.metadata.name for n in client.CoreV1Api(api).list_namespace().items}
    assert NAMESPACE not in names


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release(tmp_path_factory.mktemp("newer"), NEWER)


class Server:
    """NATS in the drill's environment, as a client sees it."""

    def __init__(self, api: client.ApiClient) -> None:
        core: Any = client.CoreV1Api(api)
        self._address = core.read_namespaced_pod("nats-0", NAMESPACE).status.pod_ip
        secret = core.read_namespaced_secret("login-nats", NAMESPACE).data["nats"]
        self._password = base64.b64decode(secret).decode()

    @property
    def version(self) -> str:
        """What it says of itself."""
        return httpx.get(f"http://{self._address}:8222/varz", trust_env=False).json()["version"]

    def with_bucket(self, work: Callable[[KeyValue], Awaitable[Found]]) -> Found:
        """Work with the bucket that the platform's own check made."""

        async def run() -> Found:
            connection = await nats.connect(f"nats://{self._address}:4222", user="nats", password=self._password)
            try:
                return await work(await connection.jetstream().key_value(BUCKET))
            finally:
                await connection.close()

        return asyncio.run(run())

    def keep(self, prefix: str, count: int = 300) -> None:
        """Values, each acknowledged."""

        async def put(bucket: KeyValue) -> None:
            for number in range(count):
                await bucket.put(f"{prefix}.{number}", str(number).encode())

        self.with_bucket(put)

    def missing(self, prefix: str, count: int = 300) -> list[int]:
        """Which of them are not there as they were written."""

        async def look(bucket: KeyValue) -> list[int]:
            found = [(n, (await bucket.get(f"{prefix}.{n}")).value) for n in range(count)]
            return [number for number, value in found if value != str(number).encode()]

        return self.with_bucket(look)


def test_a_server_goes_up_a_version_and_back_and_keeps_its_data(
    older: Release, newer: Release, api: client.ApiClient
) -> None:
    first = Server(api)
    assert first.version == OLDER
    first.keep("older")
    newer.up()
    second = Server(api)
    assert second.version == NEWER
    assert second.missing("older") == []
    second.keep("newer")
    older.up()
    third = Server(api)
    assert third.version == OLDER
    assert third.missing("older") == [] and third.missing("newer") == []


def test_what_the_move_means_is_said_before(older: Release, newer: Release) -> None:
    said = newer.forge("upgrade-check", "-s", STACK).stdout
    assert f"| image nats | safe | {OLDER} -> {NEWER} |" in said


def test_a_volume_grows_with_the_update_and_nothing_is_lost(older: Release, api: client.ApiClient) -> None:
    core: Any = client.CoreV1Api(api)
    before = Server(api)
    before.keep("grown")
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="512Mi"))
    older.up()
    claim = core.read_namespaced_persistent_volume_claim("data-nats-0", NAMESPACE)
    assert claim.status.capacity["storage"] == "512Mi"
    assert Server(api).missing("grown") == []


def test_a_volume_that_would_shrink_is_refused_and_nothing_changes(older: Release, api: client.ApiClient) -> None:
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="512Mi"))
    older.up()
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="128Mi"))
    refused = older.forge("up", "-s", STACK, check=False)
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="512Mi"))
    assert refused.returncode == 1 and "cannot shrink" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert Server(api).version == OLDER


def test_the_release_that_is_drilled_is_this_one() -> None:
    assert f"nats: {{version: {NEWER}," in (paths.PROJECT / "components/versions.lock.yaml").read_text()
