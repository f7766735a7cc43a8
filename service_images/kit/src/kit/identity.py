"""Authentication between services: the caller sends a ServiceAccount token for one callee, and the callee checks it.

Kubernetes issues the tokens: a projected volume contains one per service that this one calls, with that service's name
as its audience, and the kubelet renews them within the hour. The callee checks signature, issuer, audience, time and
account with the cluster's public keys. It fetches them from the API server in advance, so calls do not depend on the
API server. Results are cached until the token expires, so that a check is one dictionary lookup.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import ssl
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import Counter

from kit import logs, telemetry
from kit.errors import ApiError, ErrorType
from kit.settings import ServiceSettings

log = logs.get("kit.identity")
HEADER = "x-service-token"
CODE = "service_identity"
"""Code of refusals. They concern the calling service, not the user that it acts for."""
_FRESH_S = 10.0
"""Seconds that a token is cached before its file is read again. The kubelet renews tokens long before they expire."""
_LEEWAY_S = 30
_MOST_BYTES = 8192
"""Most characters of a token. Kubernetes' tokens have 1,000."""
_REMEMBERED = 1000
_DISCOVERY, _KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
_PATIENCE_S = 5.0
_ANSWER_BYTES = 256 * 1024
_BACKOFF_S = (0.5, 15.0)
_EVERY_S = 300.0
"""Seconds after which keys are fetched again, which removes keys that the cluster no longer uses."""
_AGAIN_S = 10.0
"""Least seconds between two requests for the keys."""
# Kubernetes signs with asymmetric keys (RSA or elliptic curves), never with a shared secret.
_ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
_CHECKED = Counter(
    "service_identity_total",
    "Calls of services, by whether they were let in.",
    ["outcome"],
    registry=telemetry.REGISTRY,
)
_ADMITTED, _MISSING, _INVALID, _FORBIDDEN, _UNKNOWN = (
    _CHECKED.labels(outcome) for outcome in ("admitted", "missing", "invalid", "forbidden", "keys_unknown")
)


class Tokens:
    """Caller side: tokens of this process, one file per service that it calls."""

    def __init__(self, folder: Path, fresh_s: float = _FRESH_S) -> None:
        self.folder, self._fresh_s = folder, fresh_s
        self._known: dict[str, tuple[float, tuple[tuple[str, str], ...]]] = {}

    def metadata(self, callee: str) -> tuple[tuple[str, str], ...]:
        """Metadata for a call; empty if there is no token, and the callee will refuse."""
        now = time.monotonic()
        known = self._known.get(callee)
        if known is None or now >= known[0]:
            self._known[callee] = known = (now + self._fresh_s, self._read(callee))
        return known[1]

    def _read(self, callee: str) -> tuple[tuple[str, str], ...]:
        try:
            return ((HEADER, (self.folder / callee).read_text().strip()),)
        except OSError as error:
            log.warning("there is no token for this service", service=callee, reason=str(error))
            return ()


OWN = Tokens(Path())
"""Tokens of this process, set by `configure`."""


def configure(settings: ServiceSettings) -> None:
    """Set the folder of the process's tokens."""
    OWN.folder = settings.tokens_folder


class Issuer:
    """The cluster's token issuer: its name and public keys, from the API server."""

    def __init__(self, url: str, folder: Path, again_s: float = _AGAIN_S) -> None:
        """`url`: the API server. `folder` contains the `token` for it, and `ca.crt`, its CA certificate."""
        self._url, self._folder, self._again_s = url, folder, again_s
        self._document: dict[str, Any] | None = None
        self._asking = asyncio.Lock()
        self._asked = float("-inf")
        self.name = ""
        self.keys: Any = None
        """KeySet, or None before the first fetch."""
        self.generation = 0
        """A number that changes with the keys."""
        self.fetched = asyncio.Event()
        """Set once there are keys."""

    async def run(self) -> None:
        """Fetch the keys, then refresh them until cancelled. Known keys stay valid during an outage."""
        if not self._url:
            log.error("no token issuer is configured: calls of services are refused")
            return
        low, high = _BACKOFF_S
        pause = low
        while True:
            if await self.renew():
                pause = low
                await asyncio.sleep(_EVERY_S * random.uniform(0.8, 1.0))
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, high)

    async def renew(self, younger_than_s: float = 0.0) -> bool:
        """Fetch the keys, unless that has just happened. One caller at a time. Returns whether it succeeded."""
        async with self._asking:
            if time.monotonic() - self._asked < younger_than_s:
                return False
            self._asked = time.monotonic()
            try:
                self._take(*await asyncio.to_thread(self._ask))
            except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
                log.warning(
                    "cannot fetch the cluster's public keys" + ("" if self.keys else ": calls of services are refused"),
                    reason=repr(error),
                )
                return False
            return True

    async def changed(self) -> bool:
        """Fetch the keys again for a token that matches none. Returns whether they have changed."""
        before = self.generation
        await self.renew(self._again_s)
        return self.generation != before

    def _take(self, name: str, document: dict[str, Any]) -> None:
        if (name, document) == (self.name, self._document):
            return
        from joserfc.errors import JoseError  # libraries of three megabytes
        from joserfc.jwk import KeySet

        try:
            keys = KeySet.import_key_set(document)  # type: ignore[arg-type]
        except JoseError as error:
            raise ValueError(str(error)) from None
        if not keys.keys:
            raise ValueError("there are no keys")
        self.name, self.keys, self._document = name, keys, document
        self.generation += 1
        self.fetched.set()
        log.info("fetched the cluster's public keys", issuer=name, keys=len(keys.keys))

    def _ask(self) -> tuple[str, dict[str, Any]]:
        where = urlsplit(self._url)
        if where.scheme != "https" or not where.hostname:
            raise ValueError(f"{self._url!r} is not a valid URL of an API server")
        # The kubelet renews the token, so the file is read each time.
        headers = {"authorization": f"Bearer {(self._folder / 'token').read_text().strip()}"}
        trusted = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
        connection = http.client.HTTPSConnection(
            where.hostname, where.port or 443, timeout=_PATIENCE_S, context=trusted
        )
        try:
            return str(_got(connection, _DISCOVERY, headers)["issuer"]), _got(connection, _KEYS, headers)
        finally:
            connection.close()


def _got(connection: http.client.HTTPSConnection, path: str, headers: dict[str, str]) -> Any:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    content = answer.read(_ANSWER_BYTES)
    if answer.status == http.HTTPStatus.FORBIDDEN:
        raise ValueError(f"{path}: 403; the account may not read it (system:service-account-issuer-discovery)")
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"{path}: {answer.status}")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the answer is not a JSON object")
    return found  # pyright: ignore[reportUnknownVariableType]


class Callers:
    """Callee side: admits the configured callers only."""

    def __init__(self, name: str, callers: Collection[str], issuer: Issuer) -> None:
        """`name`: this service's name, the audience of tokens. `callers`: "namespace/service account" each."""
        self._name, self._callers, self._issuer = name, frozenset(callers), issuer
        self._admitted: dict[str, float] = {}
        self._generation = 0

    @classmethod
    def of(cls, settings: ServiceSettings) -> Callers:
        """Create it from the settings."""
        return cls(settings.name, settings.callers, Issuer(settings.issuer, settings.issuer_folder))

    async def run(self) -> None:
        """Run the refresh of keys until cancelled."""
        await self._issuer.run()

    async def ready(self) -> None:
        """Wait until tokens can be checked."""
        await self._issuer.fetched.wait()

    async def check(self) -> str | None:
        """Readiness."""
        return None if self._issuer.keys else "the cluster's public keys are not fetched yet"

    def known(self, token: str) -> bool:
        """Whether a token is in the cache of valid tokens. This is the hot path."""
        if self._admitted.get(token, 0.0) <= time.time() or self._generation != self._issuer.generation:
            return False
        _ADMITTED.inc()
        return True

    async def admit(self, token: str) -> None:
        """Admit a call, or raise ApiError with the problem of its token."""
        if not token:
            _MISSING.inc()
            where = f"in {HEADER}, or over REST as authorization: Bearer"
            raise _refused(401, f"The call has no service token. {self._name} requires one {where}.")
        if self.known(token):
            return
        if self._issuer.keys is None:
            _UNKNOWN.inc()
            raise _refused(503, f"{self._name} cannot check callers yet: it has not fetched the cluster's public keys.")
        try:
            caller, until = await self._verified(token)
        except _Invalid as error:
            _INVALID.inc()
            raise _refused(401, f"The token of the calling service is not valid: {error}.") from None
        if caller not in self._callers:
            _FORBIDDEN.inc()
            log.warning("refused a caller that is not allowed", caller=caller)
            raise _refused(403, f"The service account {caller} may not call {self._name}.")
        self._remember(token, until)
        _ADMITTED.inc()

    def _remember(self, token: str, until: float) -> None:
        if self._generation != self._issuer.generation:
            # A key may have been removed, which invalidates the tokens that it signed.
            self._generation = self._issuer.generation
            self._admitted.clear()
        if len(self._admitted) >= _REMEMBERED:
            now = time.time()
            self._admitted = {known: end for known, end in self._admitted.items() if end > now}
        if len(self._admitted) < _REMEMBERED:
            self._admitted[token] = until

    async def _verified(self, token: str) -> tuple[str, float]:
        """(account, expiry) of a token. Raises _Invalid."""
        if len(token) > _MOST_BYTES:
            raise _Invalid("it is too long")
        from joserfc import errors

        try:
            try:
                return self._read(token)
            except (errors.InvalidKeyIdError, errors.BadSignatureError, errors.InvalidClaimError):
                # The cluster may have a new signing key.
                if not await self._issuer.changed():
                    raise
                return self._read(token)
        except errors.JoseError as error:
            raise _Invalid(_REASONS.get(error.error, "it is not a valid token")) from None
        except (ValueError, TypeError, KeyError):
            raise _Invalid("it is not a valid token") from None

    def _read(self, token: str) -> tuple[str, float]:
        from joserfc import jwt

        claims = jwt.decode(token, self._issuer.keys, algorithms=_ALGORITHMS).claims
        required: Any = {"essential": True}
        jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={**required, "value": self._issuer.name},
            aud={**required, "value": self._name},
            exp=required,
            sub=required,
        ).validate(claims)
        account = claims["kubernetes.io"]
        namespace, name = account["namespace"], account["serviceaccount"]["name"]
        if claims["sub"] != f"system:serviceaccount:{namespace}:{name}":
            raise _Invalid("it names two accounts")
        return f"{namespace}/{name}", float(claims["exp"])


class _Invalid(Exception):
    """A token is invalid. The message says why."""


_REASONS = {
    "bad_signature": "the cluster has not signed it",
    "invalid_key_id": "the cluster has not signed it",
    "expired_token": "it has expired",
    "invalid_claim": "it is for another service, of another issuer, or not valid yet",
    "missing_claim": "it lacks the account, the audience or the expiry",
}


def _refused(status: int, message: str) -> ApiError:
    kinds = {401: ErrorType.AUTHENTICATION, 403: ErrorType.PERMISSION}
    return ApiError(status, message, kinds.get(status, ErrorType.SERVER), code=CODE)
