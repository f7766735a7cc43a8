"""Process beside each NATS server: decides about logins that pods have registered in the secret store.

NATS asks it about each login that is not in the server's own configuration (auth callout). Its answer names the
service's account and rights, so that NATS never loads another configuration. It reads a registration at the first
login, and keeps it, so that known logins work while the store is away, also after a restart. It closes the connections
of logins that have ended, and removes registrations that were not renewed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import signal
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import nats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kit.secret_store import SecretStore, StoreRefused, StoreUnavailable, Token
from kit.settings import ServiceSettings
from nats.aio.client import Client
from nats.errors import Error as NatsError

ROLE = "platform.nats"
REGISTRY = "logins.nats"
"""Folder of the store's secrets with the registrations. Each is named like its login, and holds a digest."""
LASTS_S = 3600.0 + 60.0
"""Seconds that a registration lasts after it was written, with reserve for clocks that differ."""
EVERY_S = 5.0
"""Seconds between two looks for ended logins."""
GRACE_S = 30.0
"""Seconds that a login lasts whose registration is gone. A store that was restored from a snapshot has lost the newest
registrations; pods notice that within ten seconds, and register again."""
_READS = 8
"""Most requests to the store at the same time."""
_LOGIN = re.compile(r"(?P<service>[a-z0-9-]+)\.[0-9a-f]{16}")


class Denied(Exception):
    """A login is refused. The message says why; NATS logs it."""


@dataclass(frozen=True)
class Registration:
    """A login that a pod has registered."""

    sha256: str
    """Digest of its password, hexadecimal."""
    until: float
    """Unix time of its end, unless it is renewed."""


class Registry:
    """The registrations in the store, as far as they are known."""

    def __init__(self, store: SecretStore, kept: Path) -> None:
        """`kept`: file with what was known before a restart."""
        self._store, self._kept = store, kept
        self._token: Token | None = None
        self._reads = asyncio.Semaphore(_READS)
        self.known = dict[str, Registration]()
        """By login."""
        try:
            self.known = {login: Registration(**one) for login, one in json.loads(kept.read_text()).items()}
        except FileNotFoundError:
            pass
        except (AttributeError, OSError, TypeError, ValueError) as error:
            # Written by another release, or damaged: the store has all that is valid.
            print(f"{kept} is not used: {error!r}", flush=True)

    async def allows(self, login: str, password: str) -> bool:
        """Whether a login is registered with this password. Raises StoreUnavailable."""
        found = self.known.get(login)
        if found is None or found.until <= time.time():
            found = await self.read(login)
        given = hashlib.sha256(password.encode()).hexdigest()
        return found is not None and found.until > time.time() and hmac.compare_digest(found.sha256, given)

    async def read(self, login: str) -> Registration | None:
        """The registration in the store now; None if there is none. Raises StoreUnavailable."""
        answer = await self._ask("GET", f"kv/data/{REGISTRY}/{login}")
        if answer is None:
            return None
        written = datetime.fromisoformat(answer["data"]["metadata"]["created_time"]).timestamp()
        found = Registration(str(answer["data"]["data"]["sha256"]), written + LASTS_S)
        if found != self.known.get(login):
            self.known[login] = found
            self._keep()
        return found

    async def names(self) -> set[str]:
        """All registered logins. Raises StoreUnavailable."""
        answer = await self._ask("GET", f"kv/metadata/{REGISTRY}?list=true")
        return set(answer["data"]["keys"]) if answer else set()

    async def remove(self, login: str) -> None:
        """Remove a registration that was not renewed. Raises StoreUnavailable."""
        await self._ask("DELETE", f"kv/metadata/{REGISTRY}/{login}")

    def forget(self, login: str) -> None:
        """Refuse this login from now on, unless the store has it."""
        if self.known.pop(login, None) is not None:
            self._keep()

    async def _ask(self, method: str, path: str) -> dict[str, Any] | None:
        """Answer of the store; None for 404."""
        async with self._reads:
            for again in (True, False):
                if self._token is None:
                    self._token = await self._enter()
                try:
                    return await self._store.ask(method, path, self._token)
                except StoreRefused as error:
                    if error.status == 404:
                        return None
                    self._token = None  # it has expired, or the store was restored
                    if not again:
                        raise StoreUnavailable(str(error)) from None
        raise AssertionError("unreachable")

    async def _enter(self) -> Token:
        try:
            return await self._store.login()
        except StoreRefused as error:
            raise StoreUnavailable(str(error)) from None

    def _keep(self) -> None:
        new = self._kept.with_suffix(".new")
        new.write_text(json.dumps({login: asdict(one) for login, one in self.known.items()}))
        new.replace(self._kept)


class Responder:
    """Answers NATS, and ends connections."""

    def __init__(self, declared: dict[str, Any], registry: Registry, monitor: str) -> None:
        """`declared`: the program's document. `monitor`: URL of the server's monitoring port."""
        self._declared, self._registry, self._monitor = declared, registry, monitor
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(declared["seed"]))
        self._http = httpx.AsyncClient(timeout=5, trust_env=False)
        self._gone = dict[str, float]()
        """Monotonic time since when each login that is still in use is not registered."""
        self._tasks = set[asyncio.Task[None]]()

    async def take(self, message: Any) -> None:
        """Begin to answer a question of NATS. Answers do not wait for one another."""
        task = asyncio.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Any) -> None:
        asked = _claims(message.data.decode())["nats"]
        given = asked["connect_opts"]
        said: dict[str, Any] = {"type": "authorization_response", "version": 2}
        try:
            said["jwt"] = await self._admit(asked["user_nkey"], given.get("user", ""), given.get("pass", ""))
        except (Denied, StoreUnavailable) as error:
            said["error"] = str(error)
        except Exception as error:  # without an answer, the client waits for a timeout
            said["error"] = repr(error)
        await message.respond(
            self._signed({"sub": asked["user_nkey"], "aud": asked["server_id"]["id"], "nats": said}).encode()
        )

    async def _admit(self, subject: str, login: str, password: str) -> str:
        """The account and rights of a login, signed. Raises Denied or StoreUnavailable."""
        match = _LOGIN.fullmatch(login)
        account = self._declared["accounts"].get(match["service"]) if match else None
        if account is None or not await self._registry.allows(login, password):
            raise Denied(f"the login {login[:80]!r} is not registered with this password")
        rights, unlimited = account["permissions"], {"subs": -1, "data": -1, "payload": -1}
        user = {"pub": rights["publish"], "sub": rights["subscribe"], **unlimited, "type": "user", "version": 2}
        return self._signed({"sub": subject, "aud": account["account"], "name": login, "nats": user})

    def _signed(self, claims: dict[str, Any]) -> str:
        """A token of NATS (JWT, Ed25519)."""
        claims = {"iat": int(time.time()), "iss": self._declared["issuer"], **claims}
        claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
        text = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(claims)}"
        return f"{text}.{_base64(self._key.sign(text.encode()))}"

    async def round(self, connection: Client) -> None:
        """Close connections of logins that have ended. Raises StoreUnavailable, NatsError or httpx.HTTPError."""
        there = await self._registry.names()
        expired = {login for login in there if await self._expired(login)}
        now = time.monotonic()
        answer = (await self._http.get(f"{self._monitor}/connz?auth=1&limit=100000")).json()
        used = {one["cid"]: one.get("authorized_user", "") for one in answer["connections"]}
        logins = {login for login in used.values() if _LOGIN.fullmatch(login)}
        self._gone = {login: self._gone.get(login, now) for login in logins - there}
        ended = expired | {login for login, since in self._gone.items() if now - since >= GRACE_S}
        for login in {*self._registry.known} - there - {*self._gone} | ended:
            self._registry.forget(login)
        for number, login in used.items():
            if login in ended:
                # The server ignores it unless an answer is asked for.
                subject = f"$SYS.REQ.SERVER.{answer['server_id']}.KICK"
                await connection.request(subject, json.dumps({"cid": number}).encode(), timeout=5)
                print(f"the login {login} has ended; its connection is closed", flush=True)

    async def _expired(self, login: str) -> bool:
        """Whether nobody has renewed a registration. Then it is removed."""
        found = self._registry.known.get(login)
        if found is None or found.until <= time.time():
            found = await self._registry.read(login)
        if found is None or found.until > time.time():
            return False
        await self._registry.remove(login)
        return True


def _claims(token: str) -> dict[str, Any]:
    """Content of a token from the server, over its own connection."""
    text = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _encoded(part: dict[str, Any]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


async def _run() -> None:
    declared = json.loads(Path(os.environ["LOGINS_DECLARED"]).read_text())
    settings = ServiceSettings(
        name=ROLE, store_url=os.environ["STORE_ADDRESS"], store_authority=Path(os.environ["STORE_AUTHORITY_FILE"])
    )
    if folder := os.environ.get("STORE_TOKEN"):
        settings = settings.model_copy(update={"tokens_folder": Path(folder)})
    registry = Registry(SecretStore(settings), Path(os.environ["LOGINS_KEPT"]))
    responder = Responder(declared, registry, os.environ["NATS_MONITOR"])

    async def note(error: Exception) -> None:
        print(f"NATS: {error!r}", flush=True)

    user = str(declared["login"])
    login = {"user": user, "password": declared["password"], "inbox_prefix": f"_INBOX.{user}", "error_cb": note}
    connection = await nats.connect(
        os.environ["NATS_URL"], **login, max_reconnect_attempts=-1, reconnect_time_wait=0.2, connect_timeout=2
    )
    await connection.subscribe("$SYS.REQ.USER.AUTH", queue="logins", cb=responder.take)
    said = ""
    while True:
        try:
            await responder.round(connection)
            problem = ""
        except (StoreUnavailable, NatsError, OSError, ValueError, LookupError, httpx.HTTPError) as error:
            problem = f"cannot look for ended logins: {error!r}"
        if problem != said:
            print(problem or "ended logins are found again", flush=True)
            said = problem
        await asyncio.sleep(EVERY_S)


def main() -> None:
    """Run until the pod ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # PID 1 has no default handler; nothing is left to do
    asyncio.run(_run())
