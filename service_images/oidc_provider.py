"""An OpenID Connect provider on loopback whose issuer, keys and answers a test chooses."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "cogniforge"


class Provider:
    """A provider that signs the requested claims with its current key."""

    def __init__(self, issuer_ends_with: str = "", *, end: str = "") -> None:
        """`end`: address of the page that ends logins; empty: it has none."""
        self.asked: Counter[str] = Counter()
        """Number of requests by path."""
        self.active = True
        """Whether the sessions of tokens last."""
        self.rotate()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def answer(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                provider.asked[self.path] += 1
                if self.path == "/.well-known/openid-configuration":
                    places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
                    more = {"end_session_endpoint": end} if end else {}
                    places["introspection_endpoint"] = "/introspect"
                    places = {name: provider.url + path for name, path in places.items()}
                    self.answer(200, {"issuer": provider.issuer, **places, **more})
                elif self.path == "/keys":
                    self.answer(200, {"keys": [provider._published.as_dict(private=False)]})
                else:
                    self.answer(404, {})

            def do_POST(self) -> None:
                provider.asked[self.path] += 1
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                if self.path == "/introspect":
                    self.answer(200, {"active": provider.active})
                    return
                claims = json.loads(form["code"][0])
                given = {"access_token": provider.sign(claims), "token_type": "Bearer", "expires_in": 60}
                self.answer(200, {"id_token": provider.sign(claims), **given})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.issuer = self.url + issuer_ends_with
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def rotate(self) -> None:
        """Replace the provider's key."""
        self._key = self._published = RSAKey.generate_key(2048, auto_kid=True)

    def forge(self) -> None:
        """Sign with a key that is not the published one, under its name."""
        published = self._published
        self._key = RSAKey.import_key({**RSAKey.generate_key(2048).as_dict(private=True), "kid": published.kid})

    def sign(self, claims: dict[str, Any]) -> str:
        """A token."""
        return jwt.encode({"alg": "RS256", "kid": self._key.kid}, claims, self._key)

    def log_in(self, address: str, email: str) -> str:
        """Address to which a browser with the address `address` returns after a login with this verified e-mail."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        claims = {"iss": self.issuer, "aud": asked["client_id"], "sub": email, "exp": int(time.time()) + 60}
        claims |= {"nonce": asked["nonce"], "email": email, "email_verified": True}
        back = {"code": json.dumps(claims), "state": asked["state"], "scope": "openid", "authuser": "0"}
        return f"{urlsplit(asked['redirect_uri']).path}?{urlencode(back)}"

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
