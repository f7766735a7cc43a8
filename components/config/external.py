"""The part of a model's configuration that says where it is, where that is outside the platform."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from components.config.base import Change, DnsLabel, Section, matching, setting


class Api(StrEnum):
    """What a provider's servers speak."""

    OPENAI = "openai"
    """OpenAI's API, or one that is compatible with it."""
    ANTHROPIC = "anthropic"
    """Anthropic's Messages API."""


class External(Section):
    """A model of a provider, asked by the Router with the platform's own credential."""

    api: Api = setting(Change.SAFE, "openai or anthropic", default=Api.OPENAI, strict=False)
    url: Annotated[
        str,
        matching(
            r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*",
            "an https URL without /v1 at its end",
            'write it like "https://api.openai.com"',
        ),
    ] = setting(Change.SAFE, "The provider's servers, without /v1", max_length=500)
    model: str = setting(Change.SAFE, "The provider's name of the model", min_length=1, max_length=200)
    secret_name: DnsLabel = setting(Change.SAFE, "Secret in the platform's namespace that holds the credential")
    secret_key: Annotated[str, matching(r"[A-Za-z0-9._-]{1,100}", "a Secret's entry", 'write it like "key"')] = setting(
        Change.SAFE, "The Secret's entry; a new value is used within about a minute, without a restart", default="key"
    )
    input_price: float = setting(Change.SAFE, "US dollars per million input tokens", default=0, ge=0, le=100_000)
    output_price: float = setting(Change.SAFE, "US dollars per million output tokens", default=0, ge=0, le=100_000)

    @property
    def port(self) -> int:
        """Where its servers listen."""
        return urlsplit(self.url).port or 443

    @property
    def host(self) -> str:
        """The only host that the credential is sent to."""
        return urlsplit(self.url).hostname or ""
