"""An environment with a secret store whose server is killed, sealed and tampered with, and loses its key.

Services get their logins for PostgreSQL, the cache and NATS there. They answer requests while these are rotated.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import signal
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from kubernetes import client

from cli import audit_log
from cli.cluster import kubectl
from components.security import store_rights
from components.security.area import KEY_SECRET
from components.security.secret_store import METRICS_PORT, PART, PORT
from tests.e2e.checkout import Checkout, beside
from tests.e2e.data_client import main_process
from tests.waiting import until

pytestmark = [pytest.mark.drill("secret-store"), pytest.mark.timeout(1500)]
NAME, POD = "secrets", f"{PART}-0"
OPERATOR, SERVICE, DATABASE, CACHED, AUDIT = f"{PART}-operator", "router", "user", "prompt", "audit"
ISSUED = {f"postgres/{DATABASE}", f"postgres/{CACHED}", f"postgres/{AUDIT}", f"cache/{CACHED}"}
ISSUED |= {f"nats/{service}" for service in (SERVICE, DATABASE, CACHED, AUDIT)}
KEYS = {f"{AUDIT}/signing", f"{AUDIT}/sealing"}
TENANT = "people"
PROMPT = {"name": "greeting", "prompt": "Hello {{ name }}", "labels": ["production"]}


class Cluster:
    """The environment's store, from the view of pods in the namespace and of the scraper."""

    def __init__(self, api: client.ApiClient, checkout: Checkout) -> None:
        self.core, self._checkout = client.CoreV1Api(api), checkout
        self.key = ""
        """Key of a tenant."""

    def forge(self, *arguments: str) -> str:
        """What a command says about this environment."""
        return self._checkout.forge(*arguments, "-s", NAME).stdout

    def client(self, service: str, key: str = "") -> httpx.Client:
        """A client of a service's pod. Default: with the installation key."""
        key = key or base64.b64decode(self.core.read_namespaced_secret(KEY_SECRET, NAME).data["key"]).decode()
        pods = self.core.list_namespaced_pod(NAME, label_selector=f"app.kubernetes.io/name={service}").items
        url = f"http://{pods[0].status.pod_ip}:8080"
        return httpx.Client(base_url=url, trust_env=False, timeout=10, headers={"authorization": f"Bearer {key}"})

    def load(self, ended: threading.Event) -> tuple[int, list[str]]:
        """Requests to a service until the event: (number, failures). Each needs the database."""
        with self.client(DATABASE) as http:
            return self._until(ended, lambda: http.get("/v1/tenants"), lambda answer: answer.status_code == 200)

    def cached(self, ended: threading.Event) -> tuple[int, list[str]]:
        """Renderings of a prompt until the event: (number, failures). Each needs the database, and hits the cache."""
        with self.client(CACHED, self.key) as http:
            ask = functools.partial(
                http.post, f"/v1/prompts/{PROMPT['name']}/render", json={"variables": {"name": "A"}}
            )
            return self._until(ended, ask, lambda answer: answer.status_code == 200 and answer.json()["cached"])

    @staticmethod
    def _until(
        ended: threading.Event, ask: Callable[[], httpx.Response], good: Callable[[httpx.Response], bool]
    ) -> tuple[int, list[str]]:
        number, failed = 0, list[str]()
        while not ended.is_set():
            number += 1
            try:
                answer = ask()
            except httpx.HTTPError as error:
                failed.append(repr(error))
            else:
                if not good(answer):
                    failed.append(answer.text)
        return number, failed

    def write(self, value: str) -> None:
        """The secret of the service, by the operator."""
        token = self.token(OPERATOR, store_rights.OPERATOR)
        answer = self.ask("POST", f"kv/data/{SERVICE}/provider", token, {"data": {"key": value}})
        assert answer.status_code == 200, answer.text

    def pod(self) -> Any:
        return self.core.read_namespaced_pod(POD, NAME)

    def ready(self) -> bool:
        statuses = self.pod().status.container_statuses or []
        return len(statuses) == 2 and all(one.ready for one in statuses)

    def restarts(self) -> int:
        return sum(one.restart_count for one in self.pod().status.container_statuses or [])

    def ask(self, method: str, path: str, token: str = "", body: dict[str, Any] | None = None) -> httpx.Response:
        """Checks the store's certificate, which contains its name, but no pod's address."""
        secret = self.core.read_namespaced_secret(f"{PART}-tls", NAME)
        trusted = ssl.create_default_context(cadata=base64.b64decode(secret.data["ca.crt"]).decode())
        headers = {"X-Vault-Token": token, "host": PART} if token else {"host": PART}
        with httpx.Client(verify=trusted, trust_env=False, timeout=10) as http:
            url = f"https://{self.pod().status.pod_ip}:{PORT}/v1/{path}"
            return http.request(method, url, json=body, headers=headers, extensions={"sni_hostname": PART})

    def login(self, account: str, role: str) -> httpx.Response:
        """Log in with a ServiceAccount's token, as the kubelet projects it into the account's pods."""
        asked = {"spec": {"audiences": [store_rights.AUDIENCE], "expirationSeconds": 600}}
        made = self.core.create_namespaced_service_account_token(account, NAME, asked)
        return self.ask("POST", "auth/kubernetes/login", body={"role": role, "jwt": made.status.token})

    def token(self, account: str, role: str) -> str:
        answer = self.login(account, role)
        assert answer.status_code == 200, answer.text
        return answer.json()["auth"]["client_token"]

    def read(self) -> str:
        """The service's secret, read with its own account."""
        answer = self.ask("GET", f"kv/data/{SERVICE}/provider", self.token(SERVICE, SERVICE))
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["data"]["key"]

    def metrics(self) -> str:
        try:
            return httpx.get(f"http://{self.pod().status.pod_ip}:{METRICS_PORT}/metrics", trust_env=False).text
        except httpx.HTTPError:
            return ""

    def configured(self) -> bool:
        return self.ready() and "secret_store_configured 1" in self.metrics()

    def kill(self) -> None:
        """Kill the server with SIGKILL, through the container runtime."""
        before = self.restarts()
        running = self.pod().status.container_statuses
        identifier = next(one.container_id for one in running if one.name == PART).removeprefix("containerd://")
        os.kill(main_process(identifier), signal.SIGKILL)
        until(lambda: self.restarts() > before, 60)

    def renew(self) -> None:
        """Delete the pod, which is recreated with the same volumes."""
        before = self.pod().metadata.uid
        self.core.delete_namespaced_pod(POD, NAME, grace_period_seconds=0)
        until(lambda: self._uid() not in ("", before), 60)

    def _uid(self) -> str:
        try:
            return self.pod().metadata.uid
        except client.ApiException:
            return ""

    def run(self, python: str) -> str:
        """Run a command in the keeper's container, which runs even without the server."""
        place = ["--namespace", NAME, "exec", POD, "-c", "keeper"]
        command = [*kubectl(True, ""), *place, "--", "python3", "-c", python]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def log(self, container: str, **more: Any) -> str:
        try:
            return self.core.read_namespaced_pod_log(POD, NAME, container=container, **more) or ""  # None: no line yet
        except client.ApiException:
            return ""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Cluster]:
    # Two environments share a node of two cores, which schedules by what they reserve.
    small = {"resources": {"cpu": "20m", "memory": "256Mi"}}
    security = {"secretStore": {"replicas": 1, "storage": "256Mi", **small}}
    folder = tmp_path_factory.mktemp(NAME)
    data = {
        "destroyData": True,
        "objectStore": {"storage": "256Mi", **small},
        "postgres": {"storage": "512Mi", "resources": {"cpu": "50m", "memory": "1Gi"}},
        "nats": {"replicas": 1, "storage": "256Mi", **small},
        "cache": {"resources": {"cpu": "20m", "memory": "64Mi"}},
    }
    sized = {"resources": {"cpu": "20m", "memory": "192Mi"}}
    services = {"router": sized, DATABASE: sized, CACHED: sized, AUDIT: {**sized, "secret": False}}
    with beside(folder, NAME, 8450, api, data=data, security=security, services=services) as made:
        cluster = Cluster(api, made)
        assert "not ready" not in cluster.forge("status")
        cluster.write("kept")
        with cluster.client(DATABASE) as http:
            assert http.post("/v1/tenants", json={"id": TENANT}).status_code == 201
            cluster.key = http.post(f"/v1/tenants/{TENANT}/keys", json={"name": "test"}).json()["key"]
        with cluster.client(CACHED, cluster.key) as http:
            # Services know a new key within a second.
            until(lambda: http.post("/v1/prompts", json=PROMPT).status_code == 201, 30)
        yield cluster


def test_it_is_configured_and_a_service_reads_its_secret(store: Cluster) -> None:
    assert store.configured()
    assert store.read() == "kept"


def test_only_the_account_of_a_role_logs_in(store: Cluster) -> None:
    assert store.login("default", SERVICE).status_code == 403
    assert store.login(SERVICE, store_rights.OPERATOR).status_code == 403
    assert (
        store.ask("GET", f"kv/data/{SERVICE}/provider", store.token(OPERATOR, store_rights.OPERATOR)).status_code == 403
    )


def test_no_secret_has_an_issued_password(store: Cluster) -> None:
    names = {one.metadata.name for one in store.core.list_namespaced_secret(NAME).items}
    for service in (SERVICE, DATABASE, CACHED, AUDIT, f"{AUDIT}-keys"):
        assert f"login-{service}" not in names


def test_a_rotation_of_all_secrets_fails_no_request(store: Cluster) -> None:
    ended = threading.Event()
    with store.client(CACHED, store.key) as http:
        asked = {"variables": {"name": "A"}}
        until(lambda: http.post(f"/v1/prompts/{PROMPT['name']}/render", json=asked).json()["cached"], 60)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(one, ended) for one in (store.load, store.cached) for _ in range(4)]
        begun = time.monotonic()
        try:
            for _ in range(2):
                done = json.loads(store.forge("rotate", "--all", "-o", "json"))["secrets"]
                assert {one["name"] for one in done} == ISSUED | KEYS
                wrong = [one for one in done if not one["rotated"] or one["logins"] != (one["name"] not in KEYS)]
                assert wrong == []
        finally:
            ended.set()
        seconds = time.monotonic() - begun
    number = sum(one.result()[0] for one in asking)
    failed = [reason for one in asking for reason in one.result()[1]]
    print(f"two rotations: {number / seconds:.0f} requests/s, {len(failed)} of {number} failed")
    assert failed == []
    assert number > 100


def test_a_change_reaches_services_while_logins_for_nats_are_rotated(store: Cluster) -> None:
    """Each new key of a tenant goes from User over NATS to the service that checks it."""

    def fresh() -> str:
        with store.client(DATABASE) as http:
            return http.post(f"/v1/tenants/{TENANT}/keys", json={"name": "test"}).json()["key"]

    def known(key: str) -> bool:
        with store.client(CACHED, key) as http:
            return http.get("/v1/prompts").status_code == 200

    with ThreadPoolExecutor(1) as pool:
        rotating = pool.submit(store.forge, "rotate", f"nats/{DATABASE}", f"nats/{CACHED}", "-o", "json")
        number = 0
        while not rotating.done() or number < 3:
            key = fresh()
            until(lambda key=key: known(key), 10)
            number += 1
    print(f"{number} keys reached the service during a rotation")
    for one in json.loads(rotating.result())["secrets"]:
        assert (one["rotated"], one["logins"]) == (True, 1)


def audited(tenant: str) -> dict[str, Any]:
    """An event of a tenant."""
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/tests",
        "type": "dev.cogniforge.user.changed.v1",
        "time": "2026-11-28T10:00:00Z",
        "subject": "user/1",
        "data": {"tenant": tenant, "kind": "user", "change": "updated"},
    }


def test_audit_signs_and_encrypts_with_keys_in_the_store(store: Cluster) -> None:
    note, engine = audit_log.load("note"), store_rights.family(AUDIT, "sealing")
    token = store.token(AUDIT, AUDIT)

    def keys() -> set[str]:
        found = store.ask("GET", f"{engine}/keys?list=true", token)
        return set(found.json()["data"]["keys"]) if found.status_code == 200 else set()

    def size() -> int:
        text = http.get("/v1/audit/checkpoint")
        return note.verify(text.text, http.get("/v1/audit/key").text).size if text.status_code == 200 else 0

    def shown(tenant: str) -> list[dict[str, Any]]:
        return http.get("/v1/audit/events", params={"tenant": tenant}).json()["entries"]

    with store.client(AUDIT) as http:
        before = keys()
        assert http.post("/v1/audit/events", json=[audited("stays"), audited("gone")]).status_code == 201
        made = keys() - before
        assert len(made) >= 2
        until(lambda: size() >= 2, 30)
        old = http.get("/v1/audit/checkpoint").text
        other = store.token(SERVICE, SERVICE)
        for name in made:
            assert store.ask("DELETE", f"{engine}/keys/{name}", other).status_code == 403
        store.forge("rotate", *KEYS)
        until(lambda: len(http.get("/v1/audit/key").text.splitlines()) >= 2, 30)
        note.verify(old, http.get("/v1/audit/key").text)
        assert http.post("/v1/audit/tenants/gone/shred").json()["destroyed"] is True
        assert len(made - keys()) == 1
        assert [("data" in one) for one in shown("gone")] == [False]
        # Sealed: the tenant's entries are read and written, and the last checkpoint is there.
        until(lambda: size() >= 3, 30)
        sealed = size()
        assert store.ask("POST", "sys/seal", store.token(OPERATOR, store_rights.OPERATOR)).status_code == 204
        assert http.post("/v1/audit/events", json=[audited("stays")]).status_code == 201
        assert ([("data" in one) for one in shown("stays")], size()) == ([True, True], sealed)
        store.renew()
        until(store.configured, 120)
        until(lambda: size() > sealed, 60)


def test_nats_restarts_while_the_store_is_away(store: Cluster) -> None:
    """The process beside NATS has kept the registrations, so services connect again."""

    def pod() -> Any:
        return store.core.read_namespaced_pod("nats-0", NAME)

    before = pod().metadata.uid
    assert store.ask("POST", "sys/seal", store.token(OPERATOR, store_rights.OPERATOR)).status_code == 204
    store.core.delete_namespaced_pod("nats-0", NAME, grace_period_seconds=0)

    def renewed() -> bool:
        try:
            found = pod()
        except client.ApiException:
            return False
        return found.metadata.uid != before and all(one.ready for one in found.status.container_statuses or [])

    until(renewed, 120)
    with store.client(DATABASE) as http:
        key = http.post(f"/v1/tenants/{TENANT}/keys", json={"name": "test"}).json()["key"]
    with store.client(CACHED, key) as http:
        until(lambda: http.get("/v1/prompts").status_code == 200, 60)
    store.renew()
    until(store.configured, 120)


def test_a_service_answers_without_the_store(store: Cluster) -> None:
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(store.load, ended)
        try:
            store.kill()
            until(store.configured, 120, lambda: store.log(PART, tail_lines=30))
        finally:
            ended.set()
    assert asking.result()[1] == []


def test_a_repeatedly_killed_server_keeps_its_data(store: Cluster) -> None:
    for _ in range(3):
        begun = time.monotonic()
        store.kill()
        until(store.configured, 120, lambda: store.log(PART, tail_lines=30))
        print(f"configured {time.monotonic() - begun:.1f} s after a kill")
        assert store.read() == "kept"


def test_a_restore_brings_back_what_the_snapshot_has(store: Cluster) -> None:
    assert "saved " in store.forge("secret-store", "snapshot")
    store.write("other")
    assert "restored " in store.forge("secret-store", "restore", "--yes")
    until(store.configured, 120, lambda: store.log(PART, tail_lines=30))
    assert store.read() == "kept"


def test_undeclared_content_is_removed_within_90_seconds(store: Cluster) -> None:
    keeper = store.token(PART, store_rights.KEEPER)
    policy = json.dumps({"path": {"kv/*": {"capabilities": ["read"]}}})
    assert store.ask("POST", "sys/policies/acl/more", keeper, {"policy": policy}).status_code == 204
    until(lambda: "remove: sys/policies/acl/more" in store.log("keeper"), 90)


def test_a_sealed_store_shows_at_once_and_a_new_pod_unseals_it(store: Cluster) -> None:
    assert store.ask("POST", "sys/seal", store.token(OPERATOR, store_rights.OPERATOR)).status_code == 204
    until(lambda: "secret_store_sealed 1" in store.metrics(), 30)
    before = store.restarts()
    time.sleep(100)  # longer than a liveness probe allows: the store must stay sealed
    assert store.restarts() == before
    assert "secret_store_sealed 1" in store.metrics()
    store.renew()
    until(store.configured, 120)
    assert store.read() == "kept"


def test_a_lost_unseal_key_is_reported_and_can_be_restored_from_a_backup(store: Cluster) -> None:
    key = store.run("print(open('/seal/key', 'rb').read().hex())").strip()
    assert len(key) == 64
    store.run("import os; os.unlink('/seal/key')")
    store.renew()
    until(lambda: "the unseal key /seal/key is lost" in store.log(PART) + store.log(PART, previous=True), 120)
    assert not store.ready()
    store.run(
        "import os; f = os.open('/seal/key', os.O_CREAT | os.O_WRONLY, 0o600); "
        f"os.write(f, bytes.fromhex('{key}')); os.fsync(f)"
    )
    store.renew()
    until(store.configured, 120, lambda: store.log(PART, tail_lines=30))
    assert store.read() == "kept"


def test_footprint_and_time_to_start(store: Cluster) -> None:
    """Print the figures of docs/explanation/secrets.md."""
    store.renew()
    begun = time.monotonic()
    until(store.configured, 120)
    print(f"a new pod is configured after {time.monotonic() - begun:.1f} s")
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith("bao server") or line.endswith("-m baonode keep"):
            print(f"{line}: {process.info['memory_info'].rss / 2**20:.0f} MiB")
