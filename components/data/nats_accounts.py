"""NATS accounts: one per service. Accounts share only the subjects that the intents declare.

Streams are in the platform's own account. A service's account imports the buckets that it keeps and follows from there.
From other services' accounts it imports the subjects that it hears, and reports on the applied state of its buckets.
No other subject of one account can be used in another.
As a second line of defence, a service's user has rights to the same subjects only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.data.nats_inputs import NatsAccount

PLATFORM = "PLATFORM"
"""Account of the streams and of the setup tasks."""
_READING = (
    "$JS.API.STREAM.INFO.{0}",
    "$JS.API.STREAM.MSG.GET.{0}",
    "$JS.API.DIRECT.GET.{0}",
    "$JS.API.DIRECT.GET.{0}.>",
    "$JS.API.CONSUMER.CREATE.{0}",
    "$JS.API.CONSUMER.CREATE.{0}.>",
    "$JS.API.CONSUMER.INFO.{0}.*",
    "$JS.API.CONSUMER.DELETE.{0}.*",
    "$JS.FC.{0}.>",
)
"""Subjects for reading a stream and for flow control. Source: NATS, JetStream wire API reference."""
_API, _FOREIGN = "$JS.API.", "platform.API."
"""In each account, the JetStream API's usual subjects mean that account's own streams, or "no streams". The platform's
streams therefore have another prefix, which the server maps from the subjects that clients use."""


def account(service: str) -> str:
    """Name of a service's account."""
    return service.upper()


def accounts(owner: str, passwords: Mapping[str, str], intents: Mapping[str, NatsAccount]) -> dict[str, Any]:
    """Accounts section of nats.conf, with passwords. `owner` is the setup task's login.

    An account without a password has no user here, since the secret store issues its logins.
    """
    shared = [{"service": subject, "accounts": who} for subject, who in sorted(_asked(intents).items())]
    shared += [{"stream": _inbox(i), "accounts": [account(i.name)]} for i in intents.values() if _buckets(i)]
    platform = {"jetstream": "enabled", "users": [{"user": owner, "password": passwords[owner]}], "exports": shared}
    own = {account(i.name): _own(i, passwords.get(i.name), intents) for i in intents.values()}
    return {PLATFORM: platform, **own}


def _own(intent: NatsAccount, password: str | None, intents: Mapping[str, NatsAccount]) -> dict[str, Any]:
    """A service's account."""
    heard = [
        (account(other.name), subject)
        for other in intents.values()
        for subject, who in sorted(_heard(other, intents).items())
        if account(intent.name) in who
    ]
    if _buckets(intent):
        heard.append((PLATFORM, _inbox(intent)))  # deliveries of streams
    asked = [
        {"service": {"account": PLATFORM, "subject": subject}, "to": _foreign(subject)} for subject in requests(intent)
    ]
    user = {"user": intent.name, "password": password, "permissions": permissions(intent)}
    return {
        **({"users": [user]} if password is not None else {}),
        "exports": [{"stream": s, "accounts": who} for s, who in sorted(_heard(intent, intents).items())],
        "imports": [*asked, *({"stream": {"account": name, "subject": subject}} for name, subject in heard)],
        "mappings": {f"{_API}>": f"{_FOREIGN}>"},
    }


def requests(intent: NatsAccount) -> list[str]:
    """Subjects of the platform's account that a service may use, to read its buckets and write those that it keeps."""
    return [
        *(f"$KV.{bucket}.>" for bucket in intent.keeps),
        *(subject.format(f"KV_{bucket}") for bucket in _buckets(intent) for subject in _READING),
    ]


def permissions(intent: NatsAccount) -> dict[str, object]:
    """Publish and subscribe rights of a service's user: the subjects of its intent, and its own inbox."""
    inbox = _inbox(intent)
    return {
        "publish": {"allow": [*_sent(intent), *map(_foreign, requests(intent)), inbox]},
        "subscribe": {"allow": [*intent.hears, *(f"in_force.{bucket}.*" for bucket in intent.keeps), inbox]},
    }


def _sent(intent: NatsAccount) -> tuple[str, ...]:
    return (*intent.sends, *intent.reports)


def _buckets(intent: NatsAccount) -> tuple[str, ...]:
    return (*intent.keeps, *intent.follows)


def _foreign(subject: str) -> str:
    return subject.replace(_API, _FOREIGN)


def _inbox(intent: NatsAccount) -> str:
    return f"_INBOX.{intent.name}.>"


def _asked(intents: Mapping[str, NatsAccount]) -> dict[str, list[str]]:
    """Services that may use each subject of the platform's account, by subject."""
    found: dict[str, list[str]] = {}
    for intent in intents.values():
        for subject in requests(intent):
            found.setdefault(subject, []).append(account(intent.name))
    return found


def _heard(intent: NatsAccount, intents: Mapping[str, NatsAccount]) -> dict[str, list[str]]:
    """Services that receive each subject that a service sends, by subject."""
    keepers = {bucket: other for other in intents.values() for bucket in other.keeps}
    found = {
        subject: [account(other.name) for other in intents.values() if subject in other.hears and other != intent]
        for subject in intent.sends
    }
    for bucket, subject in zip(intent.follows, intent.reports, strict=True):
        if bucket in keepers:
            found[subject] = [account(keepers[bucket].name)]
    return {subject: who for subject, who in found.items() if who}
