"""Login with an OpenID Connect provider, such as Keycloak: authorization code flow with PKCE (RFC 7636).

The state between the redirect and the callback is in an encrypted cookie of the browser, so any replica can handle the
callback.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
from cryptography.fernet import Fernet, InvalidToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from kit import logs
from kit.errors import ApiError, ErrorType
from starlette.responses import RedirectResponse, Response

from user.models import Login

log = logs.get("user.login")
COOKIE = "cf-login"
PATIENCE_S = 600
"""Seconds from the redirect to the provider until the callback."""
SESSION = timedelta(hours=8)
TOKEN_SESSION = timedelta(minutes=15)
"""Validity of a key that a program got for a token. The program gets another one as long as the person's session at the
provider lasts, so a logout there ends everything within this time."""
GROUPS = "groups"
"""Claim with the paths of a person's groups at the provider, such as "/tenants/acme/editor"."""
_TIMEOUT_S = 5.0
_KNOWN_S = 300.0
_AGAIN_S = 5.0
"""Least seconds between two requests for the provider's keys, when a token has an unknown signing key."""
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]


class _Waiting(msgspec.Struct):
    state: str
    nonce: str
    verifier: str
    tenant: str = ""
    arrive: bool = False
    """Whether the browser goes on to the pages of the service that has some."""


@dataclass(frozen=True)
class Identity:
    """Identity of a person who has logged in."""

    issuer: str
    subject: str
    email: str
    """Email address; empty if the provider has not verified it."""
    tenant: str = ""
    """Tenant that the login was started for; empty if none was named."""
    groups: frozenset[str] = frozenset()
    """Paths of the person's groups at the provider."""
    client: str = ""
    """Program that acts for the person; empty: the person acts."""
    scopes: frozenset[str] | None = None
    """Scopes that the program may have at most; None: all that the person has."""
    expires: datetime | None = None
    """When the program's token expires; a key for it expires then, too."""


def _refused(reason: str) -> ApiError:
    return ApiError(401, f"The login has failed: {reason}.", ErrorType.AUTHENTICATION, code="login_failed")


def _away(error: Exception) -> ApiError:
    log.warning("the identity provider is unavailable", reason=repr(error))
    return ApiError(503, "The identity provider is unavailable. Try again later.", ErrorType.SERVER)


@dataclass(frozen=True)
class _Provider:
    """The provider's metadata and signing keys."""

    issuer: str
    """Issuer as in tokens, with or without a final "/"."""
    authorization: str
    token: str
    end: str
    """Page that ends a login; empty: the provider has none."""
    introspection: str
    """Where the provider says whether a token is still valid (RFC 7662); empty: nowhere."""
    keys: KeySet
    asked: float
    """Time of the request, by the monotonic clock."""


class Logins:
    """Logins with one provider."""

    def __init__(
        self,
        issuer: str,
        client: str,
        secret: str,
        redirect: str,
        address: str = "",
        authority: str = "",
        audience: str = "",
        programs: Collection[str] = (),
        delegates: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """`issuer`: with or without a final "/"; providers differ in that.

        `address`: where this service reaches the issuer, if the issuer's own URL is for browsers only; `authority`: CA
        certificate (PEM) of that address; `audience`: of access tokens that programs exchange for keys; empty: none.
        Only a provider with an audience is the platform's own, whose groups are roles. `programs`: clients that people
        use themselves; `delegates`: clients that act for people, with the scopes that each may have at most.
        """
        self._programs, self._delegates = frozenset(programs), {name: frozenset(of) for name, of in delegates.items()}
        self._address, self._audience = address.rstrip("/") or issuer.rstrip("/"), audience
        self._issuer, self._client, self._secret, self._redirect = issuer.rstrip("/"), client, secret, redirect
        self._cipher = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"cookie\0" + secret.encode()).digest()))
        verify = ssl.create_default_context(cadata=authority) if authority else True
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False, verify=verify)
        self._known: _Provider | None = None
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @staticmethod
    def expiry(lasts: timedelta = SESSION) -> datetime:
        """Time at which the key of a new login expires."""
        return datetime.now(UTC) + lasts

    async def begin(self, tenant: str = "", *, arrive: bool = False) -> Response:
        """Redirect the browser to the provider, for a login to a tenant. `arrive`: see `arrives`."""
        provider = await self._provider()
        random = secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        waiting = _Waiting(*random, tenant, arrive)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(waiting.verifier.encode()).digest()).rstrip(b"=")
        query = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self._redirect,
            "scope": "openid email",
            "state": waiting.state,
            "nonce": waiting.nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        answer = RedirectResponse(
            f"{provider.authorization}{'&' if '?' in provider.authorization else '?'}{urlencode(query)}", 302
        )
        content = self._cipher.encrypt(msgspec.json.encode(waiting)).decode()
        answer.set_cookie(
            COOKIE, content, max_age=PATIENCE_S, path="/v1/callback", secure=True, httponly=True, samesite="lax"
        )
        return answer

    async def end(self) -> Response:
        """Send the browser to the provider's page that ends its login. Raises ApiError(404) if there is none."""
        provider = await self._provider()
        if not provider.end:
            raise ApiError(404, "The identity provider has no page that ends logins.", ErrorType.NOT_FOUND)
        query = urlencode({"client_id": self._client})
        return RedirectResponse(f"{provider.end}{'&' if '?' in provider.end else '?'}{query}", 302)

    async def identity(self, login: Login, cookies: Mapping[str, str]) -> Identity:
        """Identity after the callback. Raises ApiError(401)."""
        waiting = self._waiting(cookies)
        if waiting is None:
            raise _refused("the login was not started in this browser, or too long ago")
        if login.error:
            raise _refused(f"the provider answered {login.error[:100]}")
        if not login.code or not secrets.compare_digest(login.state.encode(), waiting.state.encode()):
            raise _refused("the callback belongs to another login")
        provider = await self._provider()
        token = await self._token(provider.token, login.code, waiting.verifier)
        claims = await self._claims(token, provider, self._client, nonce={"essential": True, "value": waiting.nonce})
        return self._identity(claims, waiting.tenant)

    def arrives(self, cookies: Mapping[str, str]) -> bool:
        """Whether the login was started on a page, and the browser goes back to pages with the key."""
        waiting = self._waiting(cookies)
        return waiting is not None and waiting.arrive

    def _waiting(self, cookies: Mapping[str, str]) -> _Waiting | None:
        """The login that was started in this browser. None: none was, or it was too long ago."""
        try:
            plain = self._cipher.decrypt(cookies.get(COOKIE, "").encode(), ttl=PATIENCE_S)
            return msgspec.json.decode(plain, type=_Waiting)
        except (InvalidToken, msgspec.DecodeError):
            return None

    async def of_token(self, token: str, tenant: str) -> Identity:
        """Identity of the person to whom an access token was given, or for whom a program acts. Raises ApiError(401).

        A program that acts for people got the token in exchange for one of theirs (RFC 8693), and "azp" names it. Its
        token counts only as long as the person's session lasts.
        """
        if not self._audience:
            raise _refused("this platform takes no tokens of programs")
        provider = await self._provider()
        claims = await self._claims(token, provider, self._audience)
        identity, client = self._identity(claims, tenant), str(claims.get("azp", ""))
        if client in self._programs:
            return identity
        if client not in self._delegates:
            raise _refused(f'the program "{client[:100]}" is not declared to act for people')
        await self._lasts(provider, token)
        expires = datetime.fromtimestamp(int(claims["exp"]), UTC)
        return replace(identity, client=client, scopes=self._delegates[client], expires=expires)

    async def _lasts(self, provider: _Provider, token: str) -> None:
        """Raise ApiError(401) if the session of a token has ended, and ApiError(503) if the provider does not say."""
        try:
            form = {"token": token, "token_type_hint": "access_token"}
            answer = await self._http.post(provider.introspection, data=form, auth=(self._client, self._secret))
            said = answer.raise_for_status().json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise _away(error) from None
        if not isinstance(said, dict) or said.get("active") is not True:
            raise _refused("the person's session has ended")

    def _identity(self, claims: Mapping[str, Any], tenant: str) -> Identity:
        verified = claims.get("email_verified") is True
        email = str(claims.get("email", "")) if verified else ""
        groups: Any = claims.get(GROUPS) if self._audience else None
        known = frozenset(map(str, groups)) if isinstance(groups, list) else frozenset[str]()
        return Identity(self._issuer, str(claims["sub"]), email, tenant, known)

    async def _token(self, endpoint: str, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": verifier,
        }
        try:
            answer = await self._http.post(endpoint, data=form, auth=(self._client, self._secret))
            found = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError) as error:
            raise _away(error) from None
        if not isinstance(found, dict) or not isinstance(found.get("id_token"), str):
            raise _refused("the provider refused the code")
        return found["id_token"]

    async def _claims(self, token: str, provider: _Provider, audience: str, **more: Any) -> dict[str, Any]:
        try:
            try:
                claims = jwt.decode(token, provider.keys, algorithms=_ALGORITHMS).claims
            except (JoseError, ValueError):
                # A provider may rotate its keys at any time.
                provider = await self._provider(younger_than_s=_AGAIN_S)
                claims = jwt.decode(token, provider.keys, algorithms=_ALGORITHMS).claims
            required: Any = {"essential": True}
            jwt.JWTClaimsRegistry(
                leeway=30,
                iss={**required, "value": provider.issuer},
                aud={**required, "value": audience},
                exp=required,
                sub=required,
                **more,
            ).validate(claims)
        except (JoseError, ValueError) as error:
            raise _refused(f"the provider's token is not valid ({type(error).__name__})") from None
        return claims

    async def _provider(self, younger_than_s: float = _KNOWN_S) -> _Provider:
        """Cached metadata of the provider. If it is older than that, one login fetches it again."""
        async with self._asking:
            known = self._known
            if known is not None and time.monotonic() - known.asked < younger_than_s:
                return known
            try:
                self._known = await self._ask()
            except (httpx.HTTPError, ValueError, KeyError, TypeError, JoseError) as error:
                away = _away(error)
                if known is None:
                    raise away from None
                self._known = replace(known, asked=time.monotonic())
            return self._known

    async def _ask(self) -> _Provider:
        answer = await self._http.get(f"{self._address}/.well-known/openid-configuration")
        described = answer.raise_for_status().json()
        issuer = str(described["issuer"])
        if issuer.rstrip("/") != self._issuer:
            raise ValueError(f"its metadata has the issuer {issuer}")
        keys = KeySet.import_key_set((await self._http.get(described["jwks_uri"])).raise_for_status().json())
        places = str(described["authorization_endpoint"]), str(described["token_endpoint"])
        end = str(described.get("end_session_endpoint", ""))
        introspection = str(described.get("introspection_endpoint", ""))
        return _Provider(issuer, *places, end, introspection, keys, time.monotonic())
