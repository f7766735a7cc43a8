"""NATS: what each account's user publishes and hears, and what passes from one account to another.

Semantics: NATS documentation, "Authorization" and "Accounts". A subject stays in its account, unless its account
exports it to another account and that account imports it. Publishing and subscribing need a right of the user; a denial
wins.
`*` stands for one token, `>` at the end for one or more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.config.platform import PlatformConfig
from components.services.record import ServiceRecord
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered

PLATFORM, OWNER = "PLATFORM", "nats"
"""Account of the streams, and login of the setup task, which may do everything in it."""
FOREIGN = "unknown.subject"
"""A subject that no record names; it stands for all others."""
HEAR, WRITE, READ, MANAGE = "hear", "write", "read", "change the stream of"
_ROUTES = "connect as a server"
_MANAGING = ("STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE")
"""JetStream API calls that change or empty a stream."""


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject with wildcards covers a subject."""
    wanted, given = pattern.split("."), subject.split(".")
    for number, token in enumerate(wanted):
        if token == ">":
            return len(given) > number
        if number >= len(given) or (token != "*" and token != given[number]):
            return False
    return len(wanted) == len(given)


def permitted(rights: Mapping[str, Any] | list[str] | str | None, subject: str) -> bool:
    """Whether one direction of a user's permissions covers a subject. Without permissions, everything is allowed."""
    if rights is None:
        return True
    if isinstance(rights, str):
        rights = [rights]
    if isinstance(rights, list):
        return any(matches(one, subject) for one in rights)
    allowed = rights.get("allow")
    fine = allowed is None or any(matches(one, subject) for one in allowed)
    return fine and not any(matches(one, subject) for one in rights.get("deny") or ())


class Server:
    """The accounts of a nats.conf."""

    def __init__(self, conf: Mapping[str, Any], source: str, issued: Mapping[str, Any] | None = None) -> None:
        """`issued`: account and permissions by service of logins that the secret store has."""
        self.accounts: Mapping[str, Any] = conf.get("accounts", {})
        self._issued = issued or {}
        self.source = source
        cluster = conf.get("cluster")
        self.open_routes = bool(cluster) and not cluster.get("authorization") and not cluster.get("tls")

    def users(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(login, account, permissions)."""
        for name, account in self.accounts.items():
            for user in account.get("users") or ():
                yield user["user"], name, user.get("permissions") or {}
        for service, one in self._issued.items():
            yield service, one["account"], one["permissions"]

    def passes(self, exporter: str, importer: str, kind: str, subject: str) -> str | None:
        """The subject that the importer uses for a subject of the exporter; None: it does not pass between the two.

        `kind`: "stream" (messages go to the importer) or "service" (requests go to the exporter).
        """
        exported = any(
            matches(one[kind], subject) and (not one.get("accounts") or importer in one["accounts"])
            for one in self.accounts[exporter].get("exports") or ()
            if kind in one
        )
        if not exported:
            return None
        for one in self.accounts[importer].get("imports") or ():
            source = one.get(kind)
            if source and source["account"] == exporter and matches(source["subject"], subject):
                if "to" not in one:
                    return subject
                return _mapped(source["subject"], one["to"], subject)
        return None


def _mapped(pattern: str, to: str, subject: str) -> str:
    """The local name of an imported subject; both patterns have the same wildcards at the end."""
    fixed = [token for token in pattern.split(".") if token not in ("*", ">")]
    local = [token for token in to.split(".") if token not in ("*", ">")]
    return ".".join([*local, *subject.split(".")[len(fixed) :]])


def servers(rendered: Rendered) -> Iterator[Server]:
    """Each nats.conf of the environment."""
    for secret in rendered.of_kind("Secret"):
        if text := secret.texts.get("nats.conf"):
            issued = json.loads(secret.texts.get("logins.json", "{}")).get("accounts")
            yield Server(json.loads(text.replace("$HOSTNAME", '"host"')), secret.title, issued)


def _buckets(server: Server) -> list[str]:
    """Names of the key-value buckets that exports or rights mention, and one that stands for all others."""
    texts = json.dumps(server.accounts).replace('"', " ").replace(".", " ").split()
    return sorted({word.removeprefix("KV_").rstrip(",") for word in texts if word.startswith("KV_")} | {"unknown"})


def _subjects(server: Server) -> list[str]:
    """Subjects without wildcards that somebody publishes or exports, and one that stands for all others."""
    found = {FOREIGN}
    for _, _, permissions in server.users():
        for side in permissions.values():
            found |= {one for one in (side.get("allow") or ()) if not set(one) & {"*", ">", "$"}}
    for account in server.accounts.values():
        found |= {one["stream"] for one in account.get("exports") or () if "stream" in one}
    return sorted(one for one in found if not one.startswith(("_INBOX", "platform.API")) and ">" not in one)


def granted(rendered: Rendered) -> dict[Access, str]:
    """What each login hears of which other login, and what it may do with which bucket."""
    found = dict[Access, str]()
    for server in servers(rendered):
        users = list(server.users())
        for login, account, rights in users:
            if login == OWNER:
                continue
            by = f"{server.source}, account {account}"
            for sender, origin, sending in users:
                for subject in _subjects(server):
                    if sender == OWNER or not permitted(sending.get("publish"), subject):
                        continue
                    local = subject if origin == account else server.passes(origin, account, "stream", subject)
                    if local and permitted(rights.get("subscribe"), local):
                        found[Access(login, HEAR, f"{subject} of {sender}")] = by
            for bucket in _buckets(server):
                for action, subject in _bucket_calls(bucket):
                    local = subject if account == PLATFORM else server.passes(PLATFORM, account, "service", subject)
                    if local and permitted(rights.get("publish"), local):
                        found[Access(login, action, f"bucket {bucket}")] = by
        if server.open_routes:
            found[Access("whoever reaches the port", _ROUTES, "the cluster of NATS")] = f"{server.source}, cluster"
    return found


def _bucket_calls(bucket: str) -> Iterator[tuple[str, str]]:
    """(action, subject of the platform's account) for all that can be done with a bucket."""
    stream = f"KV_{bucket}"
    yield WRITE, f"$KV.{bucket}.key"
    yield READ, f"$JS.API.DIRECT.GET.{stream}.$KV.{bucket}.key"
    yield READ, f"$JS.API.STREAM.MSG.GET.{stream}"
    yield READ, f"$JS.API.CONSUMER.CREATE.{stream}.any.$KV.{bucket}.key"
    for call in _MANAGING:
        yield MANAGE, f"$JS.API.{call}.{stream}"


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """What the records say."""
    found = dict[Access, str]()
    if config.data.nats is None:
        return found
    records = uses.records(config)
    for name, record in records.items():
        for bucket in record.keeps:
            found[Access(name, WRITE, f"bucket {bucket}")] = f"record of {name}: keeps"
        for bucket in (*record.keeps, *record.follows):
            reason = f"record of {name}: {'keeps' if bucket in record.keeps else 'follows'}"
            found[Access(name, READ, f"bucket {bucket}")] = reason
        for other, subject in _said(records.values()):
            if subject in record.hears:
                found[Access(name, HEAR, f"{subject} of {other}")] = f"record of {name}: hears"
            elif any(subject == f"in_force.{bucket}.{other}" for bucket in record.keeps):
                reason = f"record of {name}: keeps a bucket; {other} follows"
                found[Access(name, HEAR, f"{subject} of {other}")] = reason
    if config.security.opa:
        found[Access(uses.OPA, READ, f"bucket {uses.DIRECTORY}")] = "security.opa: it follows the directory of keys"
        for name, record in records.items():
            if uses.DIRECTORY in record.keeps:
                subject = f"in_force.{uses.DIRECTORY}.{uses.OPA}"
                reason = f"record of {name}: keeps a bucket; {uses.OPA} follows"
                found[Access(name, HEAR, f"{subject} of {uses.OPA}")] = reason
    return found


def _said(records: Iterable[ServiceRecord]) -> Iterator[tuple[str, str]]:
    """(service, subject): what each service publishes, and its reports on the buckets that it follows."""
    for record in records:
        for subject in dict.fromkeys((*record.sends, *(f"in_force.{one}.{record.name}" for one in record.follows))):
            yield record.name, subject


def _holder(access: Access, rendered: Rendered) -> str:
    source = next((server.source for server in servers(rendered)), "the configuration of NATS")
    return f"{source}, account {access.who.upper()}"


LAYER = Layer(
    "nats",
    "NATS accounts",
    "Which login hears which subject of which other login, and reads, writes or manages which key-value bucket, "
    "through exports, imports and the rights of users. One subject and one bucket that no record names stand for all "
    "others.",
    granted,
    intended,
    _holder,
)
