"""Settings of a service: environment variables with a common prefix, one per field, and one file per secret."""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

IDENTITY = Path("/var/run/secrets/cogniforge")
"""Folder of a pod's tokens."""
_PREFIX = "SERVICE_"


def _secrets() -> Path:
    """Folder of a pod's secrets, each in a file that is named like the environment variable of its field."""
    return Path(os.environ.get("SERVICE_SECRETS_FOLDER", "/var/run/secrets/service"))


class LogLevel(StrEnum):
    """Lowest level that a service logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServiceSettings(BaseSettings):
    """Settings of all services. A service subclasses it and adds its own.

    A secret comes from its file. `secret` reads the file again, since it changes with the Secret of the cluster.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)
    _from_files: dict[str, tuple[Path, SecretStr]] = PrivateAttr(default_factory=dict[str, tuple[Path, SecretStr]])
    """File of each secret that came from one, and what it held then."""

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
    """Share of REST clients' requests that are recorded, where the gateway does not decide."""
    gateway_traces: bool = False
    """Whether the gateway begins the traces of REST clients, and decides which are recorded."""
    postgres_host: str = ""
    """Host of the service's database, through the connection pool. Database and login have the service's name."""
    postgres_direct_host: str = ""
    """Host of the database server itself, if it differs from that of the pool."""
    postgres_password: SecretStr = SecretStr("")
    store_url: str = ""
    """URL of the secret store; empty if there is none."""
    store_issues: tuple[str, ...] = ()
    """Systems for which the store issues the login instead of a password: "postgres", "cache", "nats"."""
    store_authority: Path | None = None
    """File with the store's CA certificate."""
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment variables, and files of secrets if the pod has any."""
        folder = _secrets()
        files = (SecretsSettingsSource(settings_cls, secrets_dir=folder),) if folder.is_dir() else ()
        return (init_settings, env_settings, *files)

    def model_post_init(self, context: Any, /) -> None:
        """Note which secrets came from files."""
        for name in type(self).model_fields:
            value, file = getattr(self, name), _secrets() / f"{_PREFIX}{name}".upper()
            if isinstance(value, SecretStr) and value.get_secret_value() and _text(file) == value.get_secret_value():
                self._from_files[name] = (file, value)

    def secret(self, name: str) -> str:
        """Current value of a secret field, read from its file if it came from there; empty if it is not set.

        While the file cannot be read or is empty, the value stays what it was at the start.
        """
        known: SecretStr = getattr(self, name)
        file, held = self._from_files.get(name, (None, None))
        # A copy of the settings may have another value.
        return (_text(file) if file and held is known else "") or known.get_secret_value()

    def issues(self, system: str) -> bool:
        """Whether the secret store issues the login for a system."""
        return bool(self.store_url) and system in self.store_issues

    def database(self, *, pooled: bool, login: tuple[str, str] | None = None) -> str:
        """Connection string of the service's database, through the pool or directly.

        `login`: user and password. Default: the service's name, and the password of the settings.
        """
        port = self.postgres_pool_port if pooled else self.postgres_port
        user, secret = login or (self.name, self.secret("postgres_password"))
        host = self.postgres_host if pooled else self.postgres_direct_host or self.postgres_host
        return f"postgresql://{user}:{urllib.parse.quote(secret, safe='')}@{host}:{port}/{self.name}"


def _text(file: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return file.read_text().strip()
    return ""
