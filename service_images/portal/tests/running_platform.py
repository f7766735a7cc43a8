"""The platform on loopback: real services, each with a server and a thread, behind the gateway's own configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.mesh import entrance, envoy
from components.mesh.routes import Backend, GatewayIntent
from components.services.evidence import policies
from local import paths
from service_images.conftest import NatsServer, PostgresServer
from service_images.ports import free_port

SOURCES = Path(__file__).resolve().parents[2]
SERVICES = ("user", "billing", "audit", "prompt", "guardrails", "retriever")
"""Services of which a platform can have some."""
sys.path[:0] = [str(SOURCES / name / "src") for name in ("kit", "router", "portal", *SERVICES)]
# The package of the tests of the whole project is found only from its root.
sys.path.append(str(paths.PROJECT))

from kit import bus, migrate  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from portal.__main__ import create as create_portal  # noqa: E402
from portal.evidence import Evidence, Policy, RunImage  # noqa: E402
from portal.settings import PortalSettings  # noqa: E402
from router import __main__ as router  # noqa: E402
from router.control import Control  # noqa: E402
from router.core import Core  # noqa: E402
from router.front import Front  # noqa: E402
from router.live import LiveRoutes  # noqa: E402
from router.overrides import Overrides  # noqa: E402
from router.routes import RouteTable  # noqa: E402
from router.tenants import Tenants  # noqa: E402

from tests import envoy_server  # noqa: E402
from tests.stack_files import stack_file  # noqa: E402

EVIDENCE = Evidence(
    platform="0.1.0",
    source="local-build",
    images=(
        RunImage(name="router", version="0.1.0", reference=f"registry.example/router@sha256:{'1' * 64}"),
        RunImage(name="mine", reference=f"registry.example/mine@sha256:{'2' * 64}", own=False),
    ),
)
OPERATOR = "cf-the-operators-key-of-this-test"
SECRET = "a-secret-of-this-test-which-is-long-enough"
BUCKETS = ("tenants", "policies", "deleted", "budgets", "router", "labels")
_STARTS_S = 120


def config(*services: str) -> PlatformConfig:
    """The local environment's configuration with these services and the Portal, without other servers."""
    content = stack_file("local")
    needed = {"embeddings": {}} if "retriever" in services else {}
    content["services"] = {name: content["services"].get(name, {}) for name in (*services, *needed, "portal")}
    return parse({**content, "security": {}, "observability": {}})  # what these tests need, they start


class Certificate:
    """A certificate for localhost, which is its own authority."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.folder = folder
        self.pem = made.public_bytes(serialization.Encoding.PEM).decode()
        (folder / "tls.crt").write_text(self.pem)
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (folder / "tls.key").write_bytes(private)


@contextmanager
def _serving(app: Any, port: int, http: Any = "httptools") -> Iterator[None]:
    """An application on a thread of its own, once it takes requests."""
    settings = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", http=http, loop="uvloop")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _STARTS_S
        while not (server.started and httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200):
            assert thread.is_alive() and time.monotonic() < deadline, f"{app} does not start"
            time.sleep(0.05)
        yield
    finally:
        server.should_exit = True
        thread.join()


def _on_loopback(intent: GatewayIntent, ports: Mapping[str, int], port: int) -> GatewayIntent:
    def moved(backend: Backend) -> Backend:
        return Backend(backend.name, "127.0.0.1", ports.get(backend.name, 1))

    return dataclasses.replace(
        intent,
        port=port,
        routes=tuple(dataclasses.replace(route, backend=moved(route.backend)) for route in intent.routes),
        documents=tuple(dataclasses.replace(one, backend=moved(one.backend)) for one in intent.documents),
    )


class Platform:
    """The running services. One of them can be stopped for a while.

    `postgres` and `nats` are their own: other tests of a worker recreate databases of the same names.
    """

    def __init__(self, folder: Path, postgres: PostgresServer, nats: NatsServer, names: Sequence[str]) -> None:
        nats.make_buckets(*BUCKETS)
        self.folder, self._postgres, self._nats, self._names = folder, postgres, nats, names
        self.config = config(*names)
        self.ports = {name: free_port() for name in ("router", *names, "portal")}
        self.certificate = Certificate(folder / "tls")
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.telemetry: dict[str, Any] = {}
        """The Portal's settings about servers of metrics, spans and log lines."""
        self._stacks: dict[str, ExitStack] = {}
        self._make: dict[str, Callable[[], Any]] = {}

    @contextmanager
    def running(self, routes: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> Iterator[Platform]:
        """Run all of it. `more`: arguments of the application, besides its settings, by service."""
        with ExitStack() as stack:
            stack.enter_context(self._gateway())
            for name in self._names:
                self._make[name] = self._maker(name, more.get(name, {}))
                self._start(name)
                stack.callback(self._stop, name)
            stack.enter_context(self._router(routes))
            stack.enter_context(_serving(create_portal(PortalSettings(**self.portal())), self.ports["portal"]))
            yield self

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """A service that is away during the block."""
        self._stop(name)
        try:
            yield
        finally:
            self._start(name)

    def client(self, key: str = "") -> httpx.Client:
        """A browser, or a program with a key."""
        verify = ssl.create_default_context(cadata=self.certificate.pem)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, verify=verify, headers=headers, timeout=120, trust_env=False)

    def database(self, name: str) -> str:
        """Connection string of a service's database."""
        return self._postgres.url(name)

    def _start(self, name: str) -> None:
        stack = ExitStack()
        stack.enter_context(_serving(self._make[name](), self.ports[name]))
        self._stacks[name] = stack

    def _stop(self, name: str) -> None:
        self._stacks.pop(name).close()

    def _maker(self, name: str, more: Mapping[str, Any]) -> Callable[[], Any]:
        """Function that makes a service's application, on a database as the platform provisions it."""
        main = importlib.import_module(f"{name}.__main__")
        record = self.config.around.records[name]
        found: dict[str, Any] = {"host": "127.0.0.1", "rpc_port": 0, "tenants": record.asks_for_keys}
        if record.speaks:
            found["nats_url"] = self._nats.url
        if record.keeps_keys:
            found["installation_key"] = SecretStr(OPERATOR)
        if record.buckets:
            found["objects_endpoint"] = f"file://{self.folder}/objects"
        if record.database:
            found |= self._postgres.make_database(name)
            if record.collections:
                self._postgres.make_collection()
            migrate.migrate(name, self._postgres.url(name, name))
        kind = getattr(main, f"{name.capitalize()}Settings")
        secrets = {f"{secret}_secret" for secret in record.own_secrets} & kind.model_fields.keys()
        settings = kind(**found, **{secret: SecretStr(SECRET) for secret in secrets})
        return lambda: main.create(settings, **more)

    @contextmanager
    def _router(self, routes: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """A Router as its entry point makes one with NATS."""
        known = {"id": "default", "keys": [hashlib.sha256(OPERATOR.encode()).hexdigest()], "operator": True}
        core = Core(RouteTable.model_validate({"routes": routes, "tenants": [known]}))
        overrides = Overrides(core.table, core.reload)
        settings = ServiceSettings(name="router", nats_url=self._nats.url)
        login = bus.options(settings)
        live = LiveRoutes(settings.nats_url, core, overrides, overrides.rebase, login)
        control = Control(core, overrides, live, bus.Bus(settings))
        application = router.create(core, live, Tenants(settings.nats_url, core, login), control=control)
        with _serving(application, self.ports["router"], Front.of(core)):
            yield

    def portal(self) -> dict[str, Any]:
        """The Portal's settings as the component renders them, with the addresses of this machine."""
        record, around = self.config.around.records["portal"], self.config.around
        rendered = record.variables(self.config.services.there["portal"], around)
        known = tuple(map(Policy.model_validate, policies(self.config)))
        return {
            "host": "127.0.0.1",
            "public_url": self.url,
            "gateway_url": self.url,
            "gateway_authority": SecretStr(self.certificate.pem),
            "session_secret": SecretStr(SECRET),
            "evidence": EVIDENCE.model_copy(update={"policies": known}),
            "parts": [part for part in json.loads(rendered["SERVICE_PARTS"]) if part["name"] in self.ports],
            **self.telemetry,
        }

    @contextmanager
    def _gateway(self) -> Iterator[None]:
        intent = _on_loopback(entrance.intent(self.config), self.ports, self.port)
        rendered = json.dumps(envoy.render(intent, {}, envoy_server.MEMORY_BYTES))
        for old, new in (
            (envoy.LISTEN_PORT, self.port),
            (envoy.STATUS_PORT, free_port()),
            (envoy.ADMIN_PORT, free_port()),
            (envoy.OPERATORS_PORT, free_port()),
        ):
            rendered = rendered.replace(f'"port_value": {old}', f'"port_value": {new}')
        rendered = rendered.replace('"0.0.0.0"', '"127.0.0.1"').replace(envoy.TLS_FOLDER, str(self.certificate.folder))
        with envoy_server.serving(json.loads(rendered), self.port, self.folder):
            yield
