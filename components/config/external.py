"""The section of a model that an external provider serves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from components.config.base import Change, DnsLabel, Section, matching, setting


class Api(StrEnum):
    """API of the provider's servers."""

    OPENAI = "openai"
    """OpenAI's API, or a compatible one."""
    ANTHROPIC = "anthropic"
    """Anthropic's Messages API."""


class External(Section):
    """A provider's model. The Router calls the provider with the platform's own credential."""

    api: Api = setting(Change.SAFE, "API of the provider: openai or anthropic", default=Api.OPENAI, strict=False)
    url: Annotated[
        str,
        matching(
            r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*",
            "an https URL without /v1 at its end",
            'write it like "https://api.openai.com"',
        ),
    ] = setting(Change.SAFE, "URL of the provider's API, without /v1", max_length=500)
    model: str = setting(Change.SAFE, "Name of the model at the provider", min_length=1, max_length=200)
    secret_name: DnsLabel = setting(Change.SAFE, "Secret in the platform's namespace that holds the credential")
    secret_key: Annotated[str, matching(r"[A-Za-z0-9._-]{1,100}", "a Secret's entry", 'write it like "key"')] = setting(
        Change.SAFE,
        "Entry of the Secret; a changed value takes effect within about a minute, without a restart",
        default="key",
    )
    input_price: float = setting(Change.SAFE, "Price in USD per million input tokens", default=0, ge=0, le=100_000)
    output_price: float = setting(Change.SAFE, "Price in USD per million output tokens", default=0, ge=0, le=100_000)

    @property
    def port(self) -> int:
        """TCP port of the provider's API."""
        return urlsplit(self.url).port or 443

    @property
    def host(self) -> str:
        """Host of the provider's API: the only host that the credential is sent to."""
        return urlsplit(self.url).hostname or ""
