"""Settings of a service, from environment variables with a common prefix, one per field."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

IDENTITY = Path("/var/run/secrets/cogniforge")
"""Folder of a pod's tokens."""


class LogLevel(StrEnum):
    """Lowest level that a service logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServiceSettings(BaseSettings):
    """Settings of all services. A service subclasses it and adds its own."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_", frozen=True)

    name: str = "service"
    """Name of the service in logs, metrics and traces."""
    version: str = "0.1.0"
    host: str = "0.0.0.0"
    port: int = Field(default=8080, ge=1, le=65535)
    rpc_port: int = Field(default=9090, ge=0, le=65535)
    """TCP port for gRPC, in services that serve it."""
    log_level: LogLevel = LogLevel.INFO
    otlp_endpoint: str = ""
    """OTLP endpoint for traces, such as http://collector:4318; empty disables traces."""
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    postgres_host: str = ""
    """Host of the service's database, through the connection pool. Database and login have the service's name."""
    postgres_direct_host: str = ""
    """Host of the database server itself, if it differs from that of the pool."""
    postgres_password: SecretStr = SecretStr("")
    postgres_pool_port: int = 6432
    postgres_port: int = 5432
    kafka_bootstrap: str = ""
    """host:port of Kafka; empty if there is none."""
    kafka_password: SecretStr = SecretStr("")
    kafka_authority: Path | None = None
    """File with Kafka's CA certificate. Without it, neither TLS nor a login is used."""
    nats_url: str = ""
    """URL of NATS, such as nats://nats:4222; empty if there is none."""
    nats_password: SecretStr = SecretStr("")
    cache_url: str = ""
    """URL of the cache, such as redis://cache:6379; empty if there is none."""
    cache_password: SecretStr = SecretStr("")
    objects_endpoint: str = ""
    """URL of the object store; empty if there is none."""
    objects_password: SecretStr = SecretStr("")
    """Password for the object store. Without one, the pod's own IAM role is used."""
    objects_region: str = "us-east-1"
    objects_prefix: str = ""
    """Prefix of bucket names."""
    tenants: bool = False
    """Whether callers need API keys of the User service. Otherwise, callers that the gateway admits have all rights."""
    issuer: str = ""
    """URL of the API server, for the public keys of service tokens; empty refuses all calls of services."""
    issuer_folder: Path = IDENTITY / "issuer"
    """Folder with the `token` for the API server, and `ca.crt`, its CA certificate."""
    callers: tuple[str, ...] = ()
    """"namespace/service account" of each service that may call this one."""
    tokens_folder: Path = IDENTITY / "tokens"
    """Folder with one token per service that this one calls, in a file with that service's name."""
    drain_seconds: int = Field(default=20, ge=0, le=600)
    """Seconds that open requests may take after a stop signal."""

    def database(self, *, pooled: bool) -> str:
        """Connection string of the service's database, through the pool or directly."""
        port = self.postgres_pool_port if pooled else self.postgres_port
        password = self.postgres_password.get_secret_value()
        host = self.postgres_host if pooled else self.postgres_direct_host or self.postgres_host
        return f"postgresql://{self.name}:{password}@{host}:{port}/{self.name}"
