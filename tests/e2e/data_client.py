"""A pod with every login and client library of the data layer; tests run Python in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from cli.cluster import kubectl
from components.ai.service import NOBODY
from components.security.store_names import AUDIENCE, REGISTERED, issued_name
from local.images import pipeline
from local.node.settings import NodePaths

NAME, NAMESPACE = "data-client", "cogniforge"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": NOBODY,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Container settings that the namespace requires."""
LABELS = {"app.kubernetes.io/part-of": "cogniforge", "cogniforge.dev/test": NAME}
PRELUDE = """
import json, os, sys, time, uuid
def account(login, system):  # user and password
    if login not in issued.get(system, {}):
        return login, open(f"/etc/credentials/{login}/{system}").read().strip()
    kept = f"/tmp/issued-{login}-{system}"
    if not os.path.exists(kept):
        import ssl, urllib.request
        trusted = ssl.create_default_context(cafile="/etc/store-tls/ca.crt")
        def ask(path, token="", body=None):
            request = urllib.request.Request(f"https://secret-store:8200/v1/{path}", body, {"X-Vault-Token": token})
            with urllib.request.urlopen(request, timeout=20, context=trusted) as answer: return json.load(answer)
        token = json.dumps({"role": login, "jwt": open(f"/etc/tokens/{login}").read()}).encode()
        store = ask("auth/kubernetes/login", body=token)["auth"]["client_token"]
        if system in registered:  # the client makes the login, and registers it
            import hashlib
            user, password = f"{login}.{uuid.uuid4().hex[:16]}", uuid.uuid4().hex
            digest = {"sha256": hashlib.sha256(password.encode()).hexdigest()}
            body = {"data": {"password": password} if system == "kafka" else digest, "options": {"cas": 0}}
            ask(f"kv/data/logins.{system}/{user}", store, json.dumps(body).encode())
            if system == "kafka": until(lambda: accepted(user, password))
            found = {"username": user, "password": password}
        else:
            found = ask(f"database/creds/{issued[system][login]}", store)["data"]
        with open(f"{kept}-{os.getpid()}", "w") as file: json.dump([found["username"], found["password"]], file)
        os.replace(file.name, kept)
    return json.load(open(kept))
def secret(login, system): return account(login, system)[1]
def forget(login, system):  # servers that begin anew, or from a backup, do not know logins of later on
    kept = f"/tmp/issued-{login}-{system}"
    if os.path.exists(kept): os.remove(kept)
def postgres(login, database=None, port=6432, again=True):
    import psycopg
    user, password = account(login, "postgres")
    try:
        return psycopg.connect(host="postgres", port=port, user=user, password=password,
                               dbname=database or login, autocommit=True, prepare_threshold=None, connect_timeout=5)
    except psycopg.OperationalError as error:
        if not again or not any(text in str(error) for text in ("no such user", "authentication failed")): raise
    forget(login, "postgres")
    return postgres(login, database, port, again=False)
def kafka_as(user, password):
    return {"bootstrap.servers": f"kafka.{namespace}.svc:9092", "security.protocol": "sasl_ssl",
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password,
            "ssl.ca.location": "/etc/tls/ca.crt", "log_level": 2}
def kafka(login, **more): return {**kafka_as(*account(login, "kafka")), **more}
def accepted(user, password):  # brokers make a registered login within seconds, and then its rights
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient
    try: return AdminClient(kafka_as(user, password)).list_topics(timeout=5).topics
    except KafkaException: return False
begun = time.monotonic()
def going(seconds=1500):  # until the test says stop; at most so long
    return not os.path.exists(f"/tmp/stop-{run}") and time.monotonic() - begun < seconds
def until(what, seconds=60, passing=()):
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = what()
            if found: return found
        except passing as error:
            found = error
        if time.monotonic() > deadline: raise TimeoutError(f"not within {seconds} s: {found!r}")
        time.sleep(0.2)
"""


OUTBOX = """
def put(connection, key, number):
    event = {"specversion": "1.0", "id": uuid.uuid4().hex, "type": "dev.cogniforge.prompt.changed.v1",
             "source": "/services/prompt", "time": "2026-01-01T00:00:00Z",
             "data": {"tenant": run, "name": key, "change": "version-created", "version": number}}
    connection.execute("INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload) VALUES (%s, %s, %s, %s)",
                       ("prompt.changed.v1", key, event["type"], json.dumps(event)))
"""
READ = """
from confluent_kafka import Consumer
def read(run, count, seconds):
    consumer = Consumer(kafka("audit", **{"group.id": f"audit.{run}", "auto.offset.reset": "earliest"}))
    consumer.subscribe(["prompt.changed.v1"])
    found, deadline = {}, time.monotonic() + seconds
    while sum(len(set(numbers)) for numbers in found.values()) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, timeout=1):
            if message.error(): continue
            event = json.loads(message.value())["data"]
            if event["tenant"] == run: found.setdefault(message.key().decode(), []).append(event["version"])
    consumer.close()
    return found
"""


_ADMITTED = """
import socket
def connected():
    with socket.create_connection(("{host}", {port}), timeout=5): return True
print(json.dumps(until(connected, passing=OSError)))
"""
"""A pod is ready a moment before the node's policies know its address. Clients try again; the tests' scripts do not."""


class DataClient:
    """Runs scripts in the pod; a script prints one JSON value on its last line."""

    def __init__(self, namespace: str = NAMESPACE, issued: Mapping[str, Sequence[str]] | None = None) -> None:
        """`issued`: services whose logins the secret store issues, by data server."""
        self.namespace = namespace
        self.issued = {
            system: {login: issued_name(login, system) for login in logins} for system, logins in (issued or {}).items()
        }

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The node's kubectl, with the environment's namespace."""
        command = [*kubectl(True, ""), "--namespace", self.namespace, *arguments]
        return subprocess.run(command, capture_output=True, text=True, input=stdin)

    def container(self, pod: str, name: str = "") -> dict[str, Any]:
        """Status of one of a pod's containers, by default the first."""
        statuses = json.loads(self.kubectl("get", "pod", pod, "-o", "json").stdout)["status"]["containerStatuses"]
        return next(s for s in statuses if s["name"] == (name or pod.rsplit("-", 1)[0]))

    def pod_ready(self, pod: str) -> bool:
        """Whether all of a pod's containers are ready."""
        shown = self.kubectl("get", "pod", pod, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
        return shown.stdout == "True"

    def start(self, script: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a script with these global variables."""
        known = {"namespace": self.namespace, "issued": self.issued, "registered": REGISTERED, **variables}
        lines = "".join(f"{name} = json.loads({json.dumps(json.dumps(v))})\n" for name, v in known.items())
        command = [*kubectl(True, ""), "--namespace", self.namespace, "exec", "-i", NAME, "--", "python3", "-"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(PRELUDE + lines + script)
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[str], seconds: float = 120) -> Any:
        """Result of a script. Fails with its output if it failed."""
        printed, errors = process.communicate(timeout=seconds)
        assert process.returncode == 0, errors[-3000:]
        return json.loads(printed.strip().splitlines()[-1])

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the pod."""
        return self.kubectl("exec", NAME, "--", *command)

    def run(self, script: str, seconds: float = 120, **variables: Any) -> Any:
        """Start a script, and wait for its result."""
        return self.finish(self.start(script, **variables), seconds)


def _tokens(namespace: str, logins: Iterable[str]) -> dict[str, Any]:
    """Secret with a token of each service's account, as its pods have it, for the secret store."""
    wanted = [*kubectl(True, ""), "--namespace", namespace, "create", "token", "--audience", AUDIENCE]
    found = {
        login: subprocess.run([*wanted, login], capture_output=True, text=True, check=True).stdout.strip()
        for login in logins
    }
    metadata = {"name": NAME, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": found}


def _definition(namespace: str, image: str, logins: list[str]) -> dict[str, Any]:
    mounts = [{"name": f"login-{login}", "mountPath": f"/etc/credentials/{login}"} for login in logins]
    volumes: list[dict[str, Any]] = [
        # A service whose logins are all issued by the secret store has no Secret of its own.
        {"name": f"login-{login}", "secret": {"secretName": f"login-{login}", "optional": True}}
        for login in logins
    ]
    authority = [{"key": "ca.crt", "path": "ca.crt"}]
    only_authority = {"secretName": "kafka-tls", "items": authority}
    store_authority = {"secretName": "secret-store-tls", "items": authority, "optional": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": namespace, "labels": LABELS},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "command": ["python3", "-c", "import signal; signal.pause()"],
                    "volumeMounts": [
                        *mounts,
                        {"name": "tls", "mountPath": "/etc/tls"},
                        {"name": "store-tls", "mountPath": "/etc/store-tls"},
                        {"name": "tokens", "mountPath": "/etc/tokens"},
                    ],
                    "securityContext": RESTRICTED,
                }
            ],
            "volumes": [
                *volumes,
                {"name": "tls", "secret": only_authority},
                {"name": "store-tls", "secret": store_authority},
                {"name": "tokens", "secret": {"secretName": NAME}},
            ],
        },
    }


def _admitted(namespace: str) -> dict[str, Any]:
    """Policies are additive: this one allows the pod to connect to all other pods of the platform."""
    own = {"podSelector": {"matchLabels": {"cogniforge.dev/test": NAME}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]},
    }


@contextlib.contextmanager
def data_client(
    logins: list[str], namespace: str = NAMESPACE, issued: Mapping[str, Sequence[str]] | None = None
) -> Iterator[DataClient]:
    """The ready pod, which is deleted at the end. `issued`: see `DataClient`."""
    made = DataClient(namespace, issued)
    definition = _definition(namespace, pipeline.read_index()["data-tasks"].reference, logins)
    made.kubectl("delete", "pod", NAME, "--ignore-not-found")
    tokens = _tokens(namespace, {login for services in made.issued.values() for login in services})
    wanted = {"apiVersion": "v1", "kind": "List", "items": [_admitted(namespace), tokens, definition]}
    result = made.kubectl("apply", "-f", "-", stdin=json.dumps(wanted))
    assert result.returncode == 0, result.stderr
    try:
        waited = made.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
        assert waited.returncode == 0, waited.stderr
        host, port = ("secret-store", 8200) if made.issued else ("postgres", 6432)
        made.run(_ADMITTED.format(host=host, port=port))
        yield made
    finally:
        own = [f"{kind}/{NAME}" for kind in ("pod", "networkpolicy", "secret")]
        made.kubectl("delete", *own, "--ignore-not-found", "--wait=false")


def main_process(container_id: str) -> int:
    """Process ID of a container's main process on this machine."""
    command = ["ctr", "--address", str(NodePaths().containerd_socket), "--namespace", "k8s.io", "tasks", "list"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        task, pid, *_ = line.split()
        if task == container_id:
            return int(pid)
    raise LookupError(container_id)


def kill(data: DataClient, pod: str, container: str = "") -> float:
    """Kill a pod's main process with SIGKILL. Returns the seconds until all containers are ready."""
    before = data.container(pod, container)
    os.kill(main_process(before["containerID"].removeprefix("containerd://")), signal.SIGKILL)
    started = time.monotonic()
    while time.monotonic() - started < 90:
        now = data.container(pod, container)
        if now["restartCount"] > before["restartCount"] and data.pod_ready(pod):
            return time.monotonic() - started
        time.sleep(0.2)
    pytest.fail(f"{pod} is not ready again: {now}")


def until_ready(data: DataClient, pod: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not data.pod_ready(pod):
        assert time.monotonic() < deadline, f"{pod} is not ready"
        time.sleep(0.5)
