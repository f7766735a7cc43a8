"""A gateway over HTTPS on loopback that answers according to the services' OpenAPI documents and records requests.

A call that no document has, or whose body or query does not fit, is answered with 500 and fails the test.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local import paths

Answer = tuple[int, Any]
KEY = "cf-operator"
_SERVICES = Path(__file__).resolve().parents[2] / "service_images"
_OPENAI = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi!"}}]}
_OPENAI |= {"id": "1", "object": "chat.completion", "created": 1, "model": "demo"}
_ANTHROPIC = {"id": "1", "type": "message", "role": "assistant", "model": "demo", "stop_reason": "end_turn"}
_ANTHROPIC |= {"stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
_ANTHROPIC |= {"content": [{"type": "text", "text": "Hi!"}]}


class Gateway:
    """Configured answers, and recorded requests."""

    def __init__(self) -> None:
        names = ("user", "billing", "audit")
        self.documents = [json.loads((_SERVICES / f"{name}/openapi.json").read_text()) for name in names]
        self.answers: dict[str, Answer] = {
            "POST /v1/chat/completions": (200, _OPENAI),
            "POST /v1/messages": (200, _ANTHROPIC),
        }
        self.asked: list[tuple[str, Any]] = []
        self.wrong: list[str] = []
        self.url = ""
        self.authority = ""

    def say(self, call: str, body: Any, status: int = 200) -> None:
        """Set the answer to a call such as `GET /v1/tenants`; unless an error, the body must match the document."""
        method, _, path = call.partition(" ")
        if status < 400 and status != 204:
            document, _, operation = self._operation(method, path)
            schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
            jsonschema.validate(body, {**schema, "components": document["components"]})
        self.answers[call] = (status, body)

    def _operation(self, method: str, path: str) -> tuple[Any, str, Any]:
        for document in self.documents:
            for template, operations in document["paths"].items():
                if (
                    re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path)
                    and method.lower() in operations
                ):
                    return document, template, operations[method.lower()]
        raise LookupError(f"no document has {method} {path}")

    def answer(self, method: str, target: str, body: bytes, key: str) -> Answer:
        """Check a request, and return its answer."""
        split = urlsplit(target)
        call, sent = f"{method} {split.path}", json.loads(body) if body else None
        query = dict(parse_qsl(split.query))
        self.asked.append((call, sent if sent is not None else query or None))
        if key not in (f"Bearer {KEY}", KEY):
            return 401, {"error": {"message": "No key that is known.", "type": "authentication_error"}}
        if not split.path.startswith(("/v1/chat/", "/v1/messages")):
            try:
                document, _, operation = self._operation(method, split.path)
                if "requestBody" in operation:
                    schema = operation["requestBody"]["content"]["application/json"]["schema"]
                    jsonschema.validate(sent, {**schema, "components": document["components"]})
                known = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
                required = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query" and p["required"]}
                if not required <= set(query) <= known:
                    raise LookupError(f"{call}: the query has {sorted(query)}, and may have {sorted(known)}")
            except (LookupError, jsonschema.ValidationError) as error:
                self.wrong.append(str(error))
                return 500, {"error": {"message": str(error), "type": "server_error"}}
        return self.answers.get(
            call, (404, {"error": {"message": "The thing does not exist.", "type": "not_found_error"}})
        )


def _certificate(folder: Path) -> tuple[Path, str]:
    """(file with a key and its self-signed certificate, the certificate)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway of a test")])
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    no_password = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password).decode()
    file = folder / "server.pem"
    paths.write_private(file, private + text)
    return file, text


@contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    """A gateway that serves while this is open."""
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            key = self.headers.get("authorization") or self.headers.get("x-api-key") or ""
            status, found = gateway.answer(self.command, self.path, body, key)
            content = b"" if status == 204 else (found if isinstance(found, bytes) else json.dumps(found).encode())
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    file, gateway.authority = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    gateway.url = f"https://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert gateway.wrong == []
