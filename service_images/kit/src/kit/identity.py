"""Which service calls: a token of the caller's ServiceAccount, made for one callee and checked by that callee.

Kubernetes makes the token: a projected volume holds one for each service that this one calls, with that service's name
as its audience, and the kubelet renews it within the hour. The callee checks signature, issuer, audience, time and
account with the cluster's public keys, which it asks of the API server; the API server is in no call's way. What was
found out of a token holds until the token ends, so that a call costs a look into a dictionary.
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
"""Of refusals: they are of the service that calls, not of whom it calls for."""
_FRESH_S = 10.0
"""For so long a token is sent on without a look at its file; the kubelet renews it long before it ends."""
_LEEWAY_S = 30
_MOST_BYTES = 8192
"""Of a token; Kubernetes' have 1,000."""
_REMEMBERED = 1000
_DISCOVERY, _KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
_PATIENCE_S = 5.0
_ANSWER_BYTES = 256 * 1024
_BACKOFF_S = (0.5, 15.0)
_EVERY_S = 300.0
"""After so long keys are asked for again: one that the cluster no longer uses is forgotten then."""
_AGAIN_S = 10.0
"""The keys are not asked for more often, whatever tokens come."""
# Kubernetes signs with a key of the cluster's: RSA or elliptic curves, never a shared secret.
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
    """The caller's side: this process's own tokens, a file for each service that it calls."""

    def __init__(self, folder: Path, fresh_s: float = _FRESH_S) -> None:
        self.folder, self._fresh_s = folder, fresh_s
        self._known: dict[str, tuple[float, tuple[tuple[str, str], ...]]] = {}

    def metadata(self, callee: str) -> tuple[tuple[str, str], ...]:
        """What goes with a call; empty: there is no token, and the callee will refuse."""
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
"""This process's, as `configure` was told."""


def configure(settings: ServiceSettings) -> None:
    """Say where the process's tokens are."""
    OWN.folder = settings.tokens_folder


class Issuer:
    """The cluster's issuer of tokens: its name and its public keys, as the API server tells them."""

    def __init__(self, url: str, folder: Path, again_s: float = _AGAIN_S) -> None:
        """`url` of the API server; `folder` has the `token` that it wants and the `ca.crt` of its authority."""
        self._url, self._folder, self._again_s = url, folder, again_s
        self._told: dict[str, Any] | None = None
        self._asking = asyncio.Lock()
        self._asked = float("-inf")
        self.name = ""
        self.keys: Any = None
        """A KeySet; None: they are not known yet."""
        self.generation = 0
        """Changes with the keys."""
        self.told = asyncio.Event()
        """Once there are keys."""

    async def run(self) -> None:
        """Until it is cancelled: learn the keys, then learn of others. Keys that are known outlive an outage."""
        if not self._url:
            log.error("no issuer of tokens is configured: calls of services are refused")
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
        """Ask for the keys, by one caller at a time and not if somebody has just done so; whether they were told."""
        async with self._asking:
            if time.monotonic() - self._asked < younger_than_s:
                return False
            self._asked = time.monotonic()
            try:
                self._take(*await asyncio.to_thread(self._ask))
            except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
                log.warning(
                    "the API server does not tell its keys" + ("" if self.keys else ": calls of services are refused"),
                    reason=repr(error),
                )
                return False
            return True

    async def changed(self) -> bool:
        """Whether there are other keys than a moment ago, for a token that these do not fit."""
        before = self.generation
        await self.renew(self._again_s)
        return self.generation != before

    def _take(self, name: str, told: dict[str, Any]) -> None:
        if (name, told) == (self.name, self._told):
            return
        from joserfc.errors import JoseError  # libraries of three megabytes
        from joserfc.jwk import KeySet

        try:
            keys = KeySet.import_key_set(told)  # type: ignore[arg-type]
        except JoseError as error:
            raise ValueError(str(error)) from None
        if not keys.keys:
            raise ValueError("there are no keys")
        self.name, self.keys, self._told = name, keys, told
        self.generation += 1
        self.told.set()
        log.info("the cluster's keys for tokens are known", issuer=name, keys=len(keys.keys))

    def _ask(self) -> tuple[str, dict[str, Any]]:
        where = urlsplit(self._url)
        if where.scheme != "https" or not where.hostname:
            raise ValueError(f"{self._url!r} is no address of an API server")
        # The token is renewed by the kubelet: it is read anew each time.
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
        raise ValueError(f"{path}: no object")
    return found  # pyright: ignore[reportUnknownVariableType]


class Callers:
    """The callee's side: lets in whom the configuration names, and nobody else."""

    def __init__(self, name: str, callers: Collection[str], issuer: Issuer) -> None:
        """`name` is this service's, the audience of tokens; `callers` are "namespace/service account" each."""
        self._name, self._callers, self._issuer = name, frozenset(callers), issuer
        self._admitted: dict[str, float] = {}
        self._generation = 0

    @classmethod
    def of(cls, settings: ServiceSettings) -> Callers:
        """As configured."""
        return cls(settings.name, settings.callers, Issuer(settings.issuer, settings.issuer_folder))

    async def run(self) -> None:
        """What has to run for tokens to be checked."""
        await self._issuer.run()

    async def ready(self) -> None:
        """Until tokens can be checked."""
        await self._issuer.told.wait()

    async def check(self) -> str | None:
        """Readiness."""
        return None if self._issuer.keys else "the cluster's keys for tokens are not known yet"

    def known(self, token: str) -> bool:
        """Whether a token was let in before and still is. The hot path."""
        if self._admitted.get(token, 0.0) <= time.time() or self._generation != self._issuer.generation:
            return False
        _ADMITTED.inc()
        return True

    async def admit(self, token: str) -> None:
        """Let a call in, or raise ApiError with what is wrong with its token."""
        if not token:
            _MISSING.inc()
            where = f"in {HEADER}, or over REST as authorization: Bearer"
            raise _refused(401, f"This call carries no token of a service. {self._name} wants one {where}.")
        if self.known(token):
            return
        if self._issuer.keys is None:
            _UNKNOWN.inc()
            raise _refused(503, f"{self._name} cannot check yet who calls: it does not know the cluster's keys.")
        try:
            caller, until = await self._verified(token)
        except _Invalid as error:
            _INVALID.inc()
            raise _refused(401, f"The token of the calling service is not valid: {error}.") from None
        if caller not in self._callers:
            _FORBIDDEN.inc()
            log.warning("a service may not call this one", caller=caller)
            raise _refused(403, f"The service account {caller} may not call {self._name}.")
        self._remember(token, until)
        _ADMITTED.inc()

    def _remember(self, token: str, until: float) -> None:
        if self._generation != self._issuer.generation:
            # A key may have gone, with the tokens that it signed.
            self._generation = self._issuer.generation
            self._admitted.clear()
        if len(self._admitted) >= _REMEMBERED:
            now = time.time()
            self._admitted = {known: end for known, end in self._admitted.items() if end > now}
        if len(self._admitted) < _REMEMBERED:
            self._admitted[token] = until

    async def _verified(self, token: str) -> tuple[str, float]:
        """Whose token it is, and until when. Raises _Invalid."""
        if len(token) > _MOST_BYTES:
            raise _Invalid("it is too long")
        from joserfc import errors

        try:
            try:
                return self._read(token)
            except (errors.InvalidKeyIdError, errors.BadSignatureError, errors.InvalidClaimError):
                # The cluster may have a new key.
                if not await self._issuer.changed():
                    raise
                return self._read(token)
        except errors.JoseError as error:
            raise _Invalid(_REASONS.get(error.error, "it is no token")) from None
        except (ValueError, TypeError, KeyError):
            raise _Invalid("it is no token") from None

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
    """A token that lets nobody in; says why."""


_REASONS = {
    "bad_signature": "the cluster has not signed it",
    "invalid_key_id": "the cluster has not signed it",
    "expired_token": "it has ended",
    "invalid_claim": "it is for another service, of another issuer, or not valid yet",
    "missing_claim": "it does not say whose it is, for whom, or until when",
}


def _refused(status: int, message: str) -> ApiError:
    kinds = {401: ErrorType.AUTHENTICATION, 403: ErrorType.PERMISSION}
    return ApiError(status, message, kinds.get(status, ErrorType.SERVER), code=CODE)
