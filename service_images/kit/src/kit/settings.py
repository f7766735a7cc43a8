"""Settings of a service, read from the environment: one variable a field, with a common prefix."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    log_level: LogLevel = LogLevel.INFO
    otlp_endpoint: str = ""
    """Where traces go, such as http://collector:4318; empty: nowhere."""
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    drain_seconds: int = Field(default=20, ge=0, le=600)
    """How long open requests may take after the service was told to stop."""
