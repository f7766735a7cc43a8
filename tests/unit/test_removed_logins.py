"""What the task of Kafka does with logins that nobody declares any more, such as that of a removed service."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
sys.path[:0] = [str(SOURCES / "data-tasks" / "src")]

from confluent_kafka.admin import (  # noqa: E402
    AclBinding,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialsDescription,
)
from tasks import kafka  # noqa: E402

RIGHT = {"kind": "TOPIC", "name": "note.written.v1", "pattern": "LITERAL", "operation": "WRITE"}


def _now(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class Cluster:
    """Logins and ACLs, changed by the calls of an AdminClient that the task makes."""

    def __init__(self, logins: set[str], rights: list[dict[str, str]]) -> None:
        self.logins, self.acls = logins, {kafka._binding(right) for right in rights}

    def list_topics(self, timeout: float) -> Any:
        return None

    def describe_user_scram_credentials(self) -> Future[Any]:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, kafka.ITERATIONS)
        return _now({login: UserScramCredentialsDescription(login, [info]) for login in self.logins})

    def alter_user_scram_credentials(self, changes: list[Any]) -> dict[str, Future[None]]:
        for change in changes:
            (self.logins.discard if isinstance(change, UserScramCredentialDeletion) else self.logins.add)(change.user)
        return {change.user: _now(None) for change in changes}

    def describe_acls(self, _: Any) -> Future[list[AclBinding]]:
        return _now(list(self.acls))

    def create_acls(self, bindings: list[AclBinding]) -> dict[AclBinding, Future[None]]:
        self.acls |= set(bindings)
        return {one: _now(None) for one in bindings}

    def delete_acls(self, filters: list[Any]) -> dict[Any, Future[None]]:
        gone = {(one.principal, one.name, one.operation) for one in filters}
        self.acls = {one for one in self.acls if (one.principal, one.name, one.operation) not in gone}
        return {one: _now(None) for one in filters}

    def principals(self) -> set[str]:
        return {one.principal.removeprefix("User:") for one in self.acls}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the task for the logins `users`, each of which may write one topic."""

    def execute(cluster: Cluster, *users: str, owner: str = "") -> None:
        monkeypatch.setattr(kafka, "AdminClient", lambda _: cluster)
        monkeypatch.setattr(kafka, "_as_owner", dict)
        monkeypatch.setattr(kafka, "_topics", lambda *_: None)
        monkeypatch.setattr(kafka, "_check", lambda _: None)
        monkeypatch.setattr(kafka, "password", lambda *_: "word")
        declared = {"kafka-topic-": [], "kafka-access-": [{"user": user, "rights": [RIGHT]} for user in users]}
        monkeypatch.setattr(kafka, "documents", lambda prefix: json.loads(json.dumps(declared[prefix])))
        monkeypatch.setenv("OWNER", owner)
        kafka.main()

    return execute


@pytest.mark.parametrize("removed", ["notes", "guardrails"])
def test_a_login_that_is_not_declared_loses_its_password_and_its_rights(run: Any, removed: str) -> None:
    cluster = Cluster({"router", removed}, [{"user": user, **RIGHT} for user in ("router", removed)])
    run(cluster, "router")
    assert (cluster.logins, cluster.principals()) == ({"router"}, {"router"})


def test_a_login_that_is_declared_again_has_both_again(run: Any) -> None:
    cluster = Cluster(set(), [])
    run(cluster, "notes")
    run(cluster, "router")
    run(cluster, "router", "notes")
    assert cluster.logins == cluster.principals() == {"router", "notes"}


def test_the_superuser_of_a_managed_cluster_keeps_its_rights(run: Any) -> None:
    cluster = Cluster(set(), [{"user": "notes", **RIGHT}])
    run(cluster, "router", owner="brokers")
    assert cluster.principals() == {"router", "brokers"}
    run(cluster, owner="brokers")
    assert cluster.principals() == {"brokers"}
