"""Settings of a service, read from the environment: one variable a field, with a common prefix."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

IDENTITY = Path("/var/run/secrets/cogniforge")
"""Where a pod's tokens are."""


class LogLevel(StrEnum):
    """How much a service logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServiceSettings(BaseSettings):
    """What every service can be told. A service subclasses it and adds its own."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_", frozen=True)

    name: str = "service"
    """The service's name in logs, metrics and traces."""
    version: str = "0.1.0"
    host: str = "0.0.0.0"
    port: int = Field(default=8080, ge=1, le=65535)
    rpc_port: int = Field(default=9090, ge=0, le=65535)
    """Where gRPC is served, by services that do."""
    log_level: LogLevel = LogLevel.INFO
    otlp_endpoint: str = ""
    """Where traces go, such as http://collector:4318; empty: nowhere."""
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    postgres_host: str = ""
    """Where the service's database is; its name and login are the service's own."""
    postgres_direct_host: str = ""
    """Where the server itself is, if it is not where its pool is."""
    postgres_password: SecretStr = SecretStr("")
    postgres_pool_port: int = 6432
    postgres_port: int = 5432
    kafka_bootstrap: str = ""
    """host:port of Kafka; empty: there is none."""
    kafka_password: SecretStr = SecretStr("")
    kafka_authority: Path | None = None
    """The certificate that Kafka's are signed with; without it, neither TLS nor a login is used."""
    nats_url: str = ""
    """Where NATS is, such as nats://nats:4222; empty: there is none."""
    nats_password: SecretStr = SecretStr("")
    cache_url: str = ""
    """Where the cache is, such as redis://cache:6379; empty: there is none."""
    cache_password: SecretStr = SecretStr("")
    objects_endpoint: str = ""
    """URL of the object store; empty: there is none."""
    objects_password: SecretStr = SecretStr("")
    """Without one, the pod's own AWS role is used."""
    objects_region: str = "us-east-1"
    objects_prefix: str = ""
    """What the names of buckets begin with."""
    tenants: bool = False
    """Whether callers show keys that the User service knows; else whoever the gateway let in may do everything."""
    issuer: str = ""
    """URL of the API server, whose keys tell tokens of services; empty: calls of services are refused."""
    issuer_folder: Path = IDENTITY / "issuer"
    """With the `token` that the API server wants, and the `ca.crt` that its certificate is signed with."""
    callers: tuple[str, ...] = ()
    """"namespace/service account" of each service that may call this one by itself."""
    tokens_folder: Path = IDENTITY / "tokens"
    """With a token for each service that this one calls, in a file of that service's name."""
    drain_seconds: int = Field(default=20, ge=0, le=600)
    """How long open requests may take after the service was told to stop."""

    def database(self, *, pooled: bool) -> str:
        """How to reach the service's database: through the pool, or the server itself."""
        port = self.postgres_pool_port if pooled else self.postgres_port
        password = self.postgres_password.get_secret_value()
        host = self.postgres_host if pooled else self.postgres_direct_host or self.postgres_host
        return f"postgresql://{self.name}:{password}@{host}:{port}/{self.name}"
