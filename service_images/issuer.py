"""A cluster's issuer of ServiceAccount tokens, for tests: keys, tokens, and the API server's answers.

The answers are over TLS and only for who shows the API server's own token, as a cluster without anonymous access does.
"""

from __future__ import annotations

import json
import ssl
import time
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwk, jwt
from joserfc.errors import JoseError

NAME = "https://kubernetes.default.svc.cluster.local"
NAMESPACE = "cogniforge"


class Cluster:
    """A server on loopback. `folder`: the volume that a callee mounts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.asked, self.status = folder, NAME, 0, 200
        self.keys: list[jwk.RSAKey] = []
        self.gone: set[str] = set()
        """Deleted accounts."""
        self.rotate()
        key, certificate = _certificate()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(uuid.uuid4().hex)
        (folder / "ca.crt").write_bytes(certificate)
        (folder / "server.pem").write_bytes(key + certificate)
        self.start()

    def start(self, port: int = 0) -> None:
        """Start the server, optionally at a given port."""
        issuer = self

        class Answers(BaseHTTPRequestHandler):
            """Handler of the API server's requests."""

            def do_GET(self) -> None:
                """Serve the issuer's two documents."""
                issuer.asked += 1
                known = self.headers["authorization"] == f"Bearer {(issuer.folder / 'token').read_text()}"
                found = issuer.documents().get(self.path) if known else None
                self.send_response(issuer.status if found else 401)
                self.end_headers()
                self.wfile.write(json.dumps(found or {}).encode())

            def do_POST(self) -> None:
                """Answer a TokenReview."""
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                known = self.headers["authorization"] == f"Bearer {(issuer.folder / 'token').read_text()}"
                self.send_response(201 if known else 401)
                self.end_headers()
                if known:
                    self.wfile.write(json.dumps({**body, "status": issuer.review(body["spec"])}).encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answers)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def documents(self) -> dict[str, Any]:
        """Documents by path."""
        keys = [key.as_dict(private=False, use="sig", alg="RS256") for key in self.keys]
        discovery = {"issuer": self.name, "jwks_uri": f"{self.url}/openid/v1/jwks"}
        return {"/.well-known/openid-configuration": discovery, "/openid/v1/jwks": {"keys": keys}}

    def review(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Status of a TokenReview: the token's account, and its audiences among the requested ones."""
        now = int(time.time())
        try:
            claims = jwt.decode(asked["token"], jwk.KeySet(self.keys)).claims
        except (JoseError, ValueError) as error:
            return {"authenticated": False, "error": str(error)}
        audiences = sorted({*claims["aud"]} & {*asked.get("audiences", [self.name])})
        account = claims["kubernetes.io"]["serviceaccount"]
        if not audiences or not claims["nbf"] <= now < claims["exp"] or account["name"] in self.gone:
            return {"authenticated": False, "error": "expired, of a deleted account, or for another audience"}
        user = {"username": claims["sub"], "uid": account["uid"], "groups": ["system:serviceaccounts"]}
        return {"authenticated": True, "user": user, "audiences": audiences}

    def rotate(self) -> None:
        """Replace all keys."""
        self.keys = [jwk.RSAKey.generate_key(2048, {"kid": uuid.uuid4().hex}, private=True)]

    def token(self, caller: str, callee: str, *, lasts_s: float = 3600, **claims: Any) -> str:
        """A token as the kubelet projects it into a pod of `caller`, the name of a ServiceAccount."""
        now = int(time.time())
        account = {"name": caller, "uid": str(uuid.uuid4())}
        pod = {"name": f"{caller}-7d4b9c6f5-x2x9k", "uid": str(uuid.uuid4())}
        made = {
            "aud": [callee],
            "exp": int(now + lasts_s),
            "iat": now,
            "nbf": now,
            "iss": self.name,
            "jti": str(uuid.uuid4()),
            "sub": f"system:serviceaccount:{NAMESPACE}:{caller}",
            "kubernetes.io": {"namespace": NAMESPACE, "pod": pod, "serviceaccount": account},
            **claims,
        }
        return jwt.encode({"alg": "RS256", "kid": self.keys[0].kid}, made, self.keys[0])

    def project(self, folder: Path, caller: str, *callees: str) -> Path:
        """Write a folder of tokens as in a pod of `caller`."""
        folder.mkdir(parents=True, exist_ok=True)
        for callee in callees:
            (folder / callee).write_text(self.token(caller, callee))
        return folder


def _certificate() -> tuple[bytes, bytes]:
    """Key and self-signed certificate of a server on loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return private, made.public_bytes(serialization.Encoding.PEM)
