"""Task for Kafka: applies topics, users and ACLs. Then checks that only logins with rights can write and read.

Services whose logins the secret store has (`ISSUED`) have ACLs and no password. The process beside the brokers makes
their users, and gives these the same ACLs.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import uuid
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tasks.common import Problem, documents, endpoint, password, patiently
from tasks.registrations import LOGIN

TLS = os.environ.get("KAFKA_TLS", "/etc/tls")
CHECK = "platform.check.v1"
ITERATIONS = 4096
"""Kafka's minimum of hash iterations. It suffices, because the passwords are random."""
_EVERYTHING = tuple(
    {"kind": kind, "name": name, "pattern": "LITERAL", "operation": "ALL"}
    for kind, name in (("TOPIC", "*"), ("GROUP", "*"), ("BROKER", "kafka-cluster"), ("TRANSACTIONAL_ID", "*"))
)


ANYTHING = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)


def main() -> None:
    """Run the task."""
    admin = AdminClient(as_owner())
    patiently("the brokers do not answer", lambda: admin.list_topics(timeout=10), KafkaException)
    topics, access = documents("kafka-topic-"), documents("kafka-access-")
    copies = max((topic["copies"] for topic in topics), default=1)
    check = {"name": CHECK, "partitions": 1, "copies": copies, "settings": {"retention.ms": "3600000"}}
    users = [one["user"] for one in access]
    rights = [{"user": one["user"], **right} for one in access for right in one["rights"]]
    owner = os.environ.get("OWNER", "")
    if owner:
        # Without a matching ACL, MSK allows everything. An ACL that matches everything is therefore created first.
        own = [{"user": owner, **anything} for anything in _EVERYTHING]
        _grant(admin, own)
        rights += own
    _topics(admin, [*topics, check])
    if not owner:  # MSK reads its users from Secrets Manager
        _users(admin, [user for user in users if user not in issued()])
    _rights(admin, rights)
    _check(admin, [user for user in users if user not in issued()])


def issued() -> frozenset[str]:
    """Services whose logins the secret store has."""
    return frozenset(json.loads(os.environ.get("ISSUED", "[]")))


def service_of(login: str) -> str:
    """The service of a registered login; empty: it is none."""
    match = LOGIN.fullmatch(login)
    return match["service"] if match else ""


def as_owner() -> dict[str, Any]:
    """Client settings of the superuser: a certificate for the platform's brokers, a login for MSK."""
    if owner := os.environ.get("OWNER"):
        return _as_user(endpoint(), owner, password(owner, "kafka"))
    return {
        "bootstrap.servers": endpoint(),
        "security.protocol": "ssl",
        "ssl.ca.location": f"{TLS}/ca.crt",
        "ssl.certificate.location": f"{TLS}/tls.crt",
        "ssl.key.location": f"{TLS}/tls.key",
        "log_level": 2,
    }


def _as_user(servers: str, user: str, secret: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": servers,
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": secret,
        "ssl.ca.location": os.environ.get("AUTHORITY", f"{TLS}/ca.crt"),
        "log_level": 2,
    }


def done(futures: dict[Any, Any], passing: str = "") -> None:
    """Wait for the answers. Raises Problem, but not for the error `passing`."""
    for name, future in futures.items():
        try:
            future.result(60)
        except KafkaException as error:
            if not passing or error.args[0].name() != passing:
                raise Problem(f"{name}: {error.args[0].str()}") from None


def _topics(admin: AdminClient, topics: list[dict[str, Any]]) -> None:
    there = admin.list_topics(timeout=10).topics
    new = [
        NewTopic(t["name"], num_partitions=t["partitions"], replication_factor=t["copies"])
        for t in topics
        if t["name"] not in there
    ]
    if new:
        done(admin.create_topics(new), "TOPIC_ALREADY_EXISTS")
    grown = [
        NewPartitions(t["name"], t["partitions"])
        for t in topics
        if t["name"] in there and t["partitions"] > len(there[t["name"]].partitions)
    ]
    if grown:
        done(admin.create_partitions(grown))
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            t["name"],
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in t["settings"].items()
            ],
        )
        for t in topics
    ]
    done(admin.incremental_alter_configs(resources))


def _users(admin: AdminClient, users: list[str]) -> None:
    """Set the passwords of declared users, and remove all others, such as that of a removed service."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    if users:
        done(
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(user, info, password(user, "kafka").encode()) for user in users]
            )
        )
    there: dict[str, Any] = admin.describe_user_scram_credentials().result(60)
    gone = [
        UserScramCredentialDeletion(user, one.mechanism)
        for user, found in there.items()
        if user not in users and service_of(user) not in issued()
        for one in found.scram_credential_infos
    ]
    if gone:
        done(admin.alter_user_scram_credentials(gone), "RESOURCE_NOT_FOUND")


def _binding(right: dict[str, str]) -> AclBinding:
    return AclBinding(
        ResourceType[right["kind"]],
        right["name"],
        ResourcePatternType[right["pattern"]],
        f"User:{right['user']}",
        "*",
        AclOperation[right["operation"]],
        AclPermissionType.ALLOW,
    )


def _grant(admin: AdminClient, rights: list[dict[str, str]]) -> set[AclBinding]:
    """Create the ACLs. Returns the others."""
    asked = {_binding(right) for right in rights}
    there: set[AclBinding] = set(admin.describe_acls(ANYTHING).result(60))
    if missing := list(asked - there):
        done(admin.create_acls(missing))
    return there - asked


def _rights(admin: AdminClient, rights: list[dict[str, str]]) -> None:
    """Create the desired ACLs, and delete all others but those of registered logins."""
    others = _grant(admin, rights)
    if stale := {one for one in others if service_of(one.principal.removeprefix("User:")) not in issued()}:
        done(admin.delete_acls(filters(stale)))


def filters(bindings: set[AclBinding]) -> list[AclBindingFilter]:
    """Filters for exactly these ACLs."""
    return [
        AclBindingFilter(
            b.restype, b.name, b.resource_pattern_type, b.principal, b.host, b.operation, b.permission_type
        )
        for b in bindings
    ]


def _check(admin: AdminClient, users: list[str]) -> None:
    """Write and read an event through the clients' listener."""
    token, failed = uuid.uuid4().hex, []
    producer = Producer({**as_owner(), "acks": "all", "message.timeout.ms": 60_000})
    producer.produce(CHECK, token.encode(), on_delivery=lambda error, _: failed.append(error) if error else None)
    if producer.flush(60) or failed:
        raise Problem(f"an event was not accepted: {failed}")
    consumer = Consumer({**as_owner(), "group.id": "platform-check", "enable.auto.commit": False})
    low, high = consumer.get_watermark_offsets(TopicPartition(CHECK, 0), timeout=30)
    consumer.assign([TopicPartition(CHECK, 0, max(low, high - 5))])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and not message.error() and message.value() == token.encode():
            break
    else:
        raise Problem("an event that was written was not read")
    consumer.close()
    if users:
        _refused(users[0], password(users[0], "kafka"))
    elif issued():
        _refused_temporarily(admin)


def _refused_temporarily(admin: AdminClient) -> None:
    """Check with a user for this check, where no service has a password."""
    user, secret = f"check-{uuid.uuid4().hex}", secrets.token_urlsafe(32)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    done(admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, info, secret.encode())]))
    try:
        _refused(user, secret)
    finally:
        ends = [UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512)]
        done(admin.alter_user_scram_credentials(ends))


def _refused(user: str, secret: str) -> None:
    """Check that a user sees only topics that its ACLs name."""
    login = _as_user(os.environ["CLIENTS"], user, secret)
    seen = patiently(f"{user} cannot log in", lambda: AdminClient(login).list_topics(timeout=10), KafkaException).topics
    if CHECK in seen:
        raise Problem(f"{user} sees {CHECK} without a right to it")
