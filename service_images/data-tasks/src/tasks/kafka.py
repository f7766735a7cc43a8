"""Task for Kafka: applies topics, users and ACLs. Then checks that only logins with rights can write and read."""

from __future__ import annotations

import os
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

TLS = "/etc/tls"
CHECK = "platform.check.v1"
ITERATIONS = 4096
"""Kafka's minimum of hash iterations. It suffices, because the passwords are random."""
_EVERYTHING = tuple(
    {"kind": kind, "name": name, "pattern": "LITERAL", "operation": "ALL"}
    for kind, name in (("TOPIC", "*"), ("GROUP", "*"), ("BROKER", "kafka-cluster"), ("TRANSACTIONAL_ID", "*"))
)


def main() -> None:
    """Run the task."""
    admin = AdminClient(_as_owner())
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
        _users(admin, users)
    _rights(admin, rights)
    _check(users)


def _as_owner() -> dict[str, Any]:
    """Client settings of the superuser: a certificate for the platform's brokers, a login for MSK."""
    if owner := os.environ.get("OWNER"):
        return _as_user(endpoint(), owner)
    return {
        "bootstrap.servers": endpoint(),
        "security.protocol": "ssl",
        "ssl.ca.location": f"{TLS}/ca.crt",
        "ssl.certificate.location": f"{TLS}/tls.crt",
        "ssl.key.location": f"{TLS}/tls.key",
        "log_level": 2,
    }


def _as_user(servers: str, user: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": servers,
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password(user, "kafka"),
        "ssl.ca.location": os.environ.get("AUTHORITY", f"{TLS}/ca.crt"),
        "log_level": 2,
    }


def _done(futures: dict[Any, Any], passing: str = "") -> None:
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
        _done(admin.create_topics(new), "TOPIC_ALREADY_EXISTS")
    grown = [
        NewPartitions(t["name"], t["partitions"])
        for t in topics
        if t["name"] in there and t["partitions"] > len(there[t["name"]].partitions)
    ]
    if grown:
        _done(admin.create_partitions(grown))
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
    _done(admin.incremental_alter_configs(resources))


def _users(admin: AdminClient, users: list[str]) -> None:
    """Set the passwords of declared users, and remove all others, such as that of a removed service."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    if users:
        _done(
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(user, info, password(user, "kafka").encode()) for user in users]
            )
        )
    there: dict[str, Any] = admin.describe_user_scram_credentials().result(60)
    gone = [
        UserScramCredentialDeletion(user, one.mechanism)
        for user, found in there.items()
        if user not in users
        for one in found.scram_credential_infos
    ]
    if gone:
        _done(admin.alter_user_scram_credentials(gone), "RESOURCE_NOT_FOUND")


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
    anything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    there: set[AclBinding] = set(admin.describe_acls(anything).result(60))
    if missing := list(asked - there):
        _done(admin.create_acls(missing))
    return there - asked


def _rights(admin: AdminClient, rights: list[dict[str, str]]) -> None:
    """Create the desired ACLs, and delete all others."""
    if stale := _grant(admin, rights):
        filters = [
            AclBindingFilter(
                b.restype, b.name, b.resource_pattern_type, b.principal, b.host, b.operation, b.permission_type
            )
            for b in stale
        ]
        _done(admin.delete_acls(filters))


def _check(users: list[str]) -> None:
    """Write and read an event through the clients' listener."""
    token, failed = uuid.uuid4().hex, []
    producer = Producer({**_as_owner(), "acks": "all", "message.timeout.ms": 60_000})
    producer.produce(CHECK, token.encode(), on_delivery=lambda error, _: failed.append(error) if error else None)
    if producer.flush(60) or failed:
        raise Problem(f"an event was not accepted: {failed}")
    consumer = Consumer({**_as_owner(), "group.id": "platform-check", "enable.auto.commit": False})
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
    _refused(users)


def _refused(users: list[str]) -> None:
    """Check that a user sees only topics that its ACLs name."""
    if not users:
        return
    user = users[0]
    login = _as_user(os.environ["CLIENTS"], user)
    seen = patiently(f"{user} cannot log in", lambda: AdminClient(login).list_topics(timeout=10), KafkaException).topics
    if CHECK in seen:
        raise Problem(f"{user} sees {CHECK} without a right to it")
