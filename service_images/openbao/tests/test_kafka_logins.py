"""Logins for Kafka that pods register in a real OpenBao, with a broker and the process beside it, through the kit."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from bao_server import Store, until
from baonode import rotation
from baonode.client import Client, Refused
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kit import issued_login, kafka, shared_login
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.issued_login import System
from kit.kafka import Events
from kit.rest import Model
from kit.sender import LOST, Sender
from kit.settings import ServiceSettings
from kit.spill import Spill

from components.config.data import Kafka
from components.data import kafka_access, kafka_cluster, needs
from components.data.kafka_inputs import KafkaUser
from components.security import store_names, store_rights
from components.services.registry import SERVICES
from local.images import maven
from service_images.conftest import SOURCES
from service_images.ports import free_port

pytestmark = pytest.mark.drill("secret-store")
OWNERS = [name for name, one in SERVICES.items() if one.produces or one.consumes]
SENDER, RECEIVER, TOPIC = "router", "billing", "usage.recorded.v1"
KEPT = {"retention.ms": "3600000"}
SECRETS = {f"{store_names.KAFKA}/{SENDER}": 1, f"{store_names.KAFKA}/{RECEIVER}": 1}
REGISTRY = store_names.registry(store_names.KAFKA)
ANYTHING = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)


class Numbered(Model):
    """An event of these tests."""

    number: int


@dataclass
class Stand:
    """A store, a broker and the process beside it, with this machine's ports and folders."""

    store: Store
    folder: Path
    clients: int
    controller: int
    peers: int
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    def __post_init__(self) -> None:
        for name in ("tls", "documents", "credentials"):
            (self.folder / name).mkdir()
        self._certify()
        text = kafka_cluster.properties(Kafka(replicas=1), "kafka", "platform")
        lines = dict(line.split("=", 1) for line in text.replace("/etc/tls", str(self.folder / "tls")).splitlines())
        lines |= {
            "advertised.listeners": f"CLIENT://127.0.0.1:{self.clients},PEERS://127.0.0.1:{self.peers}",
            "controller.quorum.voters": f"0@127.0.0.1:{self.controller}",
            "listeners": ",".join(
                f"{name}://127.0.0.1:{port}"
                for name, port in (("CLIENT", self.clients), ("CONTROLLER", self.controller), ("PEERS", self.peers))
            ),
            "log.dirs": str(self.folder / "log"),
            "num.partitions": "1",
        }
        (self.folder / "broker.properties").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        users = [KafkaUser(**one) for one in needs.kafka_users(SERVICES, False)]
        documents = {
            **{f"kafka-access-{one.name}": {"user": one.name, "rights": kafka_access.rights(one)} for one in users},
            f"kafka-topic-{TOPIC}": {"name": TOPIC, "partitions": 1, "copies": 1, "settings": KEPT},
        }
        self.documents = {name: json.dumps(one) for name, one in documents.items()}
        for name, one in self.documents.items():
            (self.folder / "documents" / f"{name}.json").write_text(one)

    def _certify(self) -> None:
        """The brokers' certificate, which names the superuser, too."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = ((NameOID.ORGANIZATION_NAME, "CogniForge"), (NameOID.COMMON_NAME, "kafka"))
        name, now = x509.Name([x509.NameAttribute(*one) for one in names]), datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        ).public_bytes(serialization.Encoding.PEM)
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        for file, content in (("tls.key", private), ("tls.crt", made), ("ca.crt", made)):
            (self.folder / "tls" / file).write_bytes(content)

    def environment(self) -> dict[str, str]:
        tokens = self.store.cluster.project(self.folder / "tokens", store_names.KAFKA, store_names.AUDIENCE)
        return os.environ | {
            "CLIENTS": f"127.0.0.1:{self.clients}",
            "DOCUMENTS": hashlib.sha256(json.dumps(self.documents, sort_keys=True).encode()).hexdigest(),
            "ENDPOINT": f"127.0.0.1:{self.peers}",
            "ISSUED": json.dumps(OWNERS),
            "KAFKA_TLS": str(self.folder / "tls"),
            "NODE_ID": "0",
            "PYTHONPATH": os.pathsep.join(str(SOURCES / one / "src") for one in ("data-tasks", "kit")),
            "PYTHONUNBUFFERED": "1",
            "RACK": "default",
            "STORE_ADDRESS": self.store.url,
            "STORE_AUTHORITY_FILE": str(self.store.cluster.folder / "ca.crt"),
            "STORE_TOKEN": str(tokens),
        }

    def start(self, *names: str) -> None:
        """Start the broker, or the process beside it."""
        jars = maven.jars(SOURCES / "kafka")
        java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-Dorg.apache.kafka.automatic.config.providers=env,dir"]
        java += ["-cp", f"{jars}/*"]
        properties = str(self.folder / "broker.properties")
        if not (self.folder / "log").exists():
            identifier = kafka_cluster.cluster_id("kafka", "platform")
            form = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", identifier, "--config", properties]
            subprocess.run(form, env=self.environment(), check=True, capture_output=True)
        commands = {
            "kafka": [*java, "kafka.Kafka", properties],
            "logins": [sys.executable, "-m", "tasks", "kafka_logins"],
        }
        for name in names or tuple(commands):
            log = (self.folder / f"{name}.log").open("ab")
            self.running[name] = subprocess.Popen(commands[name], env=self.environment(), stdout=log, stderr=log)

    def kill(self, *names: str) -> None:
        for name in names or tuple(self.running):
            process = self.running.pop(name)
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def log(self) -> str:
        return "".join(file.read_text() for file in self.folder.glob("*.log"))

    def task(self) -> str:
        """Run the cluster's setup task. Returns what it says."""
        # The task reads fixed folders, so a program of one line gives it these.
        program = (
            "import sys; from pathlib import Path; from tasks import common; import tasks.__main__ as run\n"
            "common.CREDENTIALS, common.DOCUMENTS = (Path(sys.argv[1]) / n for n in ('credentials', 'documents'))\n"
            "raise SystemExit(run.main(['kafka']))"
        )
        command = [sys.executable, "-c", program, str(self.folder)]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr + self.log()[-4000:]
        return done.stdout

    def admin(self) -> AdminClient:
        tls = self.folder / "tls"
        return AdminClient(
            {
                "bootstrap.servers": f"127.0.0.1:{self.peers}",
                "security.protocol": "ssl",
                "ssl.ca.location": f"{tls}/ca.crt",
                "ssl.certificate.location": f"{tls}/tls.crt",
                "ssl.key.location": f"{tls}/tls.key",
                "log_level": 2,
            }
        )

    def users(self) -> set[str]:
        """Users that the broker has."""
        admin = self.admin()  # a client without a name ends before its answer
        return set(admin.describe_user_scram_credentials().result(30))

    def principals(self) -> set[str]:
        """Logins with a right."""
        admin = self.admin()
        return {one.principal.removeprefix("User:") for one in admin.describe_acls(ANYTHING).result(30)}

    def settings(self, service: str) -> ServiceSettings:
        """As in a pod of the service."""
        tokens = self.store.cluster.project(self.folder / f"tokens-{service}", service, store_names.AUDIENCE)
        return ServiceSettings(
            name=service,
            kafka_bootstrap=f"127.0.0.1:{self.clients}",
            kafka_authority=self.folder / "tls" / "ca.crt",
            store_url=self.store.url,
            store_issues=("kafka",),
            store_authority=self.store.cluster.folder / "ca.crt",
            tokens_folder=tokens,
        )

    def operator(self) -> Client:
        return self.store.client(f"{store_names.AUDIENCE}-operator", store_rights.OPERATOR)

    def registered(self) -> set[str]:
        return set(self.operator().names(f"kv/metadata/{REGISTRY}"))


@pytest.fixture(scope="module")
def stand(shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(shared_store, tmp_path_factory.mktemp("kafka"), free_port(), free_port(), free_port())
    made.start()
    made.task()
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for rotations more often."""
    monkeypatch.setattr(issued_login, "EVERY_S", 0.2)
    monkeypatch.setattr(issued_login, "_AGAIN_S", (0.2, 0.2))
    monkeypatch.setattr(rotation, "_EVERY_S", 0.1)


async def becomes(what: Callable[[], bool], why: Callable[[], str] = str, within_s: float = 90) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not what():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(why()[-8000:])


@dataclass
class Pods:
    """A service that sends events, and one that receives them."""

    sender: Sender
    events: Events
    sent: int = 0
    received: list[int] = field(default_factory=list[int])

    def send(self) -> None:
        """Send one event."""
        self.sent += 1
        self.sender.send(TOPIC, "one", {"number": self.sent})


@contextlib.asynccontextmanager
async def pods(stand: Stand, folder: Path) -> AsyncIterator[Pods]:
    """Both services, connected."""
    sends, receives = stand.settings(SENDER), stand.settings(RECEIVER)
    received = list[int]()

    async def take(batch: Sequence[dict[str, Any]]) -> None:
        received.extend(one["number"] for one in batch)

    sender = Sender(kafka.client(sends), Spill(folder / "spill", 2**20), TOPIC)
    events = Events(receives, [TOPIC], take, DeadLetters(Database(ServiceSettings(name=RECEIVER))), Numbered)
    made = Pods(sender, events, received=received)
    tasks = [asyncio.create_task(one.run()) for one in (sender, events)]
    try:
        made.send()
        await becomes(lambda: made.received[-1:] == [1], stand.log)
        made.received[:] = [1]  # the topic has the events of the test before
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for settings, logins in list(shared_login._OF_PROCESS.values()):  # the process goes on
            for task in list(logins._tasks):
                task.cancel()
            await logins.end()
            shared_login._OF_PROCESS.pop((id(settings), System.KAFKA))


@contextlib.asynccontextmanager
async def under_load(made: Pods) -> AsyncIterator[None]:
    """Events without a pause. At the end, each has arrived once, in order."""
    going, lost = True, LOST.labels(TOPIC)._value.get()

    async def send() -> None:
        while going:
            made.send()
            await asyncio.sleep(0.002)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        going = False
        await task
    await becomes(lambda: made.received[-1:] == [made.sent], lambda: f"{made.received[-3:]} of {made.sent}")
    assert made.received == list(range(1, made.sent + 1))
    assert LOST.labels(TOPIC)._value.get() == lost


def rotate(stand: Stand) -> None:
    for done in rotation.rotate(stand.operator(), dict(SECRETS), 60):
        assert (done.problem, done.logins, done.ended) == ("", 1, 0)


def test_rotations_under_load_lose_and_repeat_no_event(stand: Stand, tmp_path: Path) -> None:
    async def work() -> None:
        async with pods(stand, tmp_path) as made:
            async with under_load(made):
                for _ in range(3):
                    before = stand.registered()
                    await asyncio.to_thread(rotate, stand)
                    assert not before & await asyncio.to_thread(stand.registered)
            assert made.sent > 100
        assert stand.registered() == set()  # stopped pods leave no login

    asyncio.run(work())


def test_two_rotations_at_once_both_succeed(stand: Stand, tmp_path: Path) -> None:
    async def work() -> None:
        async with pods(stand, tmp_path) as made, under_load(made):
            await asyncio.gather(*(asyncio.to_thread(rotate, stand) for _ in range(2)))

    asyncio.run(work())


def test_logins_that_an_operator_ends_lose_their_users_and_rights_but_no_event(stand: Stand, tmp_path: Path) -> None:
    async def work() -> None:
        async with pods(stand, tmp_path) as made, under_load(made):
            ended = stand.registered()
            assert len(ended) == 2
            for login in ended:
                stand.operator().remove(f"kv/metadata/{REGISTRY}/{login}")
            while ended & await asyncio.to_thread(stand.users):
                await asyncio.sleep(1)
            assert not ended & stand.principals()
            assert stand.users() == stand.registered() <= stand.principals()

    asyncio.run(work())


def test_the_setup_task_keeps_registered_logins_and_a_password_opens_nothing_else(stand: Stand, tmp_path: Path) -> None:
    async def work() -> None:
        async with pods(stand, tmp_path) as made:
            # Those of the tests before have ended, and the users follow.
            await becomes(lambda: stand.users() == stand.registered(), stand.log)
            before = stand.users()
            async with under_load(made):
                await asyncio.to_thread(stand.task)
            assert stand.users() == before
            held = made.sender._access["logins"]
            access = {name: one for name, one in made.sender._access.items() if not name.startswith(("log", "queue"))}
            good = {"sasl.username": held.user(), "sasl.password": held.password()}
            assert set(AdminClient(access | good).list_topics(timeout=10).topics) == {TOPIC}
            foreign = re.sub("^[a-z]+", RECEIVER, held.user())
            for wrong in ({"sasl.password": "x"}, {"sasl.username": foreign}, {"sasl.username": SENDER}):
                with pytest.raises(KafkaException):
                    AdminClient(access | good | wrong | {"log_level": 0}).list_topics(timeout=3)

    asyncio.run(work())


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_registers_logins_for_itself_only(stand: Stand, service: str) -> None:
    client, allowed = stand.store.client(service), set[str]()
    for other in SERVICES:
        path = f"{REGISTRY}/{other}.{'f' * 16}"
        with contextlib.suppress(Refused):
            client.write(f"kv/data/{path}", {"data": {"password": ""}})
            allowed.add(other)
            with pytest.raises(Refused):
                client.read(f"kv/data/{path}")
            client.remove(f"kv/metadata/{path}")
    assert allowed == ({service} if service in OWNERS else set())


def test_an_operator_reads_and_registers_no_login(stand: Stand) -> None:
    with pytest.raises(Refused):
        stand.operator().write(f"kv/data/{REGISTRY}/{SENDER}.{'f' * 16}", {"data": {"password": ""}})
    with pytest.raises(Refused):
        stand.operator().read(f"kv/data/{REGISTRY}/{SENDER}.{'f' * 16}")
    until(lambda: not {user for user in stand.users() if user.endswith("f" * 16)}, 60, stand.log)
