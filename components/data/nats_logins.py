"""How NATS takes logins that the secret store issues: a process in each server's pod decides about them.

NATS asks it about each login that is not in the server's configuration (auth callout). The alternative, a changed list
of users that the server loads again, lost one message in some thousands while it was loaded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pulumi
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.config.base import Resources
from components.data.nats_accounts import account, permissions
from components.data.nats_inputs import NatsAccount
from components.data.server import DATA_MOUNT, Process
from components.security.store_names import AUDIENCE

LOGIN, ACCOUNT = "logins", "SYS"
"""The process' login in NATS, with the owner's password, and NATS' system account, which it belongs to."""
DECLARED, AUTHORITY = "logins.json", "secret-store-ca.crt"
"""Files that it reads: its key with the services' rights, and the store's CA certificate."""
_PREFIX = 0
"""Type of an account's key. Source: NATS, nkeys."""


@dataclass(frozen=True)
class LoginStore:
    """The secret store in which pods register their logins."""

    url: pulumi.Input[str]
    authority: pulumi.Input[str]
    """CA certificate (PEM) of the store."""


def _key(password: str) -> Ed25519PrivateKey:
    """Key that signs the answers, from the owner's password, so that no further secret is kept."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"logins:{password}".encode()).digest())


def _public(key: Ed25519PrivateKey) -> str:
    """Public key of an account, as NATS writes it."""
    raw = bytes([_PREFIX]) + key.public_key().public_bytes_raw()
    return base64.b32encode(raw + struct.pack("<H", binascii.crc_hqx(raw, 0))).decode().rstrip("=")


def settings(password: str, plain: Iterable[str]) -> dict[str, Any]:
    """Part of nats.conf. `password`: the owner's. `plain`: logins with a password in the configuration."""
    asks = {"issuer": _public(_key(password)), "account": ACCOUNT, "auth_users": [*plain, LOGIN]}
    return {"system_account": ACCOUNT, "authorization": {"timeout": 3, "auth_callout": asks}}


def system_account(password: str) -> dict[str, Any]:
    """The system account, whose only user decides about logins and closes connections."""
    rights = {
        "publish": {"allow": ["$SYS._INBOX.>", "$SYS.REQ.SERVER.*.KICK"]},
        "subscribe": {"allow": ["$SYS.REQ.USER.AUTH", f"_INBOX.{LOGIN}.>"]},
    }
    # As a literal, the key would be taken for the name of a service.
    return {"users": [dict(user=LOGIN, password=password, permissions=rights)]}  # noqa: C408


def declared(password: str, issued: Iterable[NatsAccount]) -> str:
    """What the process knows: its key and login, and the account and rights of each service. Secret."""
    key = _key(password)
    accounts = {one.name: {"account": account(one.name), "permissions": permissions(one)} for one in issued}
    own = {"seed": key.private_bytes_raw().hex(), "issuer": _public(key), "login": LOGIN, "password": password}
    return json.dumps({**own, "accounts": accounts}, indent=1)


def process(image: pulumi.Input[str], store: LoginStore, part: str, urls: tuple[str, str]) -> Process:
    """The process. `part`: name of the folders with the pod's files. `urls`: the server, and its monitoring port."""
    return Process(
        LOGIN,
        image,
        Resources(cpu="10m", memory="96Mi"),
        ("nats_logins",),
        environment={
            "LOGINS_DECLARED": f"/etc/{part}-secret/{DECLARED}",
            "LOGINS_KEPT": f"{DATA_MOUNT}/{DECLARED}",
            "NATS_MONITOR": urls[1],
            "NATS_URL": urls[0],
            "STORE_ADDRESS": store.url,
            "STORE_AUTHORITY_FILE": f"/etc/{part}/{AUTHORITY}",
        },
        audiences=(AUDIENCE,),
    )
