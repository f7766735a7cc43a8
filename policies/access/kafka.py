"""Kafka's ACLs: which login reads and writes which topic, and joins which group.

Semantics: Apache Kafka documentation, "Authorization and ACLs". A denial wins. READ, WRITE, DELETE and ALTER imply
DESCRIBE; ALL implies everything. Without an ACL for a resource, `allow.everyone.if.no.acl.found` decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.config.platform import PlatformConfig
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered

CAPTURE, CONNECT = "capture", "connect-"
"""Login of change data capture, and what the topics and groups of Kafka Connect begin with."""
FOREIGN = "unknown"
"""A topic, a group or a transaction that no record names; it stands for all of these."""
STRANGER = "a login without ACLs"
_SETUP = "the setup task of Kafka"
_OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "TOPIC": ("READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "ALTER_CONFIGS"),
    "GROUP": ("READ", "DELETE", "DESCRIBE"),
    "TRANSACTIONAL_ID": ("WRITE", "DESCRIBE"),
    "CLUSTER": ("CREATE", "ALTER", "ALTER_CONFIGS", "CLUSTER_ACTION", "IDEMPOTENT_WRITE"),
}
_IMPLY_DESCRIBE = {"READ", "WRITE", "DELETE", "ALTER"}
_DOCUMENT = re.compile(r".*-access-[a-z0-9-]+")


@dataclass(frozen=True)
class Acl:
    """One ACL of Kafka."""

    user: str
    kind: str
    name: str
    pattern: str
    operation: str
    deny: bool
    source: str

    def matches(self, kind: str, name: str) -> bool:
        """Whether the ACL is about a resource."""
        if kind != self.kind:
            return False
        if self.pattern == "PREFIXED":
            return name.startswith(self.name)
        return self.name in ("*", name)

    def allows(self, operation: str) -> bool:
        """Whether an ACL that allows something allows this operation."""
        implied = operation == "DESCRIBE" and self.operation in _IMPLY_DESCRIBE
        return self.operation in ("ALL", operation) or implied


def verdict(acls: Iterable[Acl], user: str, kind: str, name: str, operation: str, everyone: str) -> str | None:
    """The object that allows an operation; None: it is denied.

    `everyone`: the object that allows what no ACL is about; empty: nothing does.
    """
    about = [acl for acl in acls if acl.matches(kind, name)]
    if not about:
        return everyone or None
    mine = [acl for acl in about if acl.user in (user, "*")]
    if any(acl.deny and acl.operation in ("ALL", operation) for acl in mine):
        return None
    return next((acl.source for acl in mine if not acl.deny and acl.allows(operation)), None)


def acls(rendered: Rendered) -> list[Acl]:
    """ACLs that the documents of the logins declare. The setup task makes them and removes all others."""
    found = list[Acl]()
    for one in rendered.of_kind("ConfigMap"):
        if not _DOCUMENT.fullmatch(one.meta.get("name") or "") or "document.json" not in one.texts:
            continue
        document = json.loads(one.texts["document.json"])
        for right in document["rights"]:
            denied = right.get("permission", "ALLOW") == "DENY"
            resource = right["kind"], right["name"], right["pattern"]
            found.append(Acl(document["user"], *resource, right["operation"], denied, one.title))
    if any(rendered.of_type("aws:msk/cluster:Cluster")):
        # The superuser's ACLs come first, so that every topic, group and transaction has one.
        found += [Acl("brokers", kind, "*", "LITERAL", "ALL", False, _SETUP) for kind in _OPERATIONS]
    return found


def _everyone(rendered: Rendered) -> str:
    """The object that allows everybody what no ACL is about; empty: none."""
    for one in rendered.of_kind("ConfigMap"):
        if re.search(r"(?m)^allow\.everyone\.if\.no\.acl\.found=true", one.texts.get("broker.properties", "")):
            return f"{one.title}, allow.everyone.if.no.acl.found"
    for one in rendered.of_type("aws:msk/configuration:Configuration"):
        if "allow.everyone.if.no.acl.found=true" in one.inputs["serverProperties"]:
            return f"{one.title}, allow.everyone.if.no.acl.found"
    return ""


def _superusers(rendered: Rendered) -> dict[str, str]:
    for one in rendered.of_kind("ConfigMap"):
        if match := re.search(r"(?m)^super\.users=(.*)$", one.texts.get("broker.properties", "")):
            # Each login is "User:<name>"; the distinguished names of certificates contain "=".
            names = [name.strip().removeprefix("User:") for name in match[1].split(";")]
            return {name: f"{one.title}, super.users" for name in names if "=" not in name}
    return {}


def _topics(rendered: Rendered) -> list[str]:
    found = [FOREIGN, f"{CONNECT}offsets"]
    for one in rendered.of_kind("ConfigMap"):
        if "-topic-" in (one.meta.get("name") or "") and "document.json" in one.texts:
            found.append(json.loads(one.texts["document.json"])["name"])
    return sorted(set(found))


def granted(rendered: Rendered) -> dict[Access, str]:
    """All operations that the ACLs allow, over all logins and topics, and the groups that begin with a login's name."""
    declared, everyone, supers = acls(rendered), _everyone(rendered), _superusers(rendered)
    if not declared:
        return {}
    logins = sorted({acl.user for acl in declared if acl.source != _SETUP} | set(supers) | {STRANGER})
    resources = {
        "TOPIC": _topics(rendered),
        "GROUP": [FOREIGN, f"{CONNECT}cluster", *(login for login in logins if login != STRANGER)],
        "TRANSACTIONAL_ID": [FOREIGN],
        "CLUSTER": ["kafka-cluster"],
    }
    found = dict[Access, str]()
    for login in logins:
        for kind, names in resources.items():
            for name in names:
                for operation in _OPERATIONS[kind]:
                    by = supers.get(login) or verdict(declared, login, kind, name, operation, everyone)
                    if by:
                        found[Access(login, operation, _target(kind, name))] = by
    return found


def _target(kind: str, name: str) -> str:
    return f"{kind.lower().replace('_', ' ')} {name}"


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """Operations that the records ask for."""
    found = dict[Access, str]()
    if config.data.kafka is None:
        return found

    def add(login: str, kind: str, name: str, reason: str, *operations: str) -> None:
        for operation in operations:
            found[Access(login, operation, _target(kind, name))] = reason

    for name, record in uses.records(config).items():
        for topic in record.produces:
            add(name, "TOPIC", topic, f"record of {name}: produces", "WRITE", "DESCRIBE")
        for topic in record.consumes:
            add(name, "TOPIC", topic, f"record of {name}: consumes", "READ", "DESCRIBE")
        if record.consumes:
            add(name, "GROUP", name, f"record of {name}: consumes", "READ", "DESCRIBE")
        if config.data.change_data_capture:
            for topic in record.outbox:
                add(CAPTURE, "TOPIC", topic, f"record of {name}: outbox", "WRITE", "DESCRIBE")
    if config.security.opa:
        add(uses.OPA, "TOPIC", uses.DECISIONS, "security.opa: decisions that Audit keeps", "WRITE", "DESCRIBE")
    if config.data.change_data_capture:
        reason = "Kafka Connect keeps its state there"
        add(CAPTURE, "TOPIC", f"{CONNECT}offsets", reason, *_OPERATIONS["TOPIC"])
        add(CAPTURE, "GROUP", f"{CONNECT}cluster", reason, *_OPERATIONS["GROUP"])
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    return next((acl.source for acl in acls(rendered) if acl.user == access.who), f"the ACLs of {access.who}")


LAYER = Layer(
    "kafka",
    "Kafka ACLs",
    "Which login does what to which topic, group, transaction, and to the cluster. One name that no record has stands "
    "for all others.",
    granted,
    intended,
    _holder,
)
