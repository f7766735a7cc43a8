"""Renamed components keep their resources through aliases, proven by the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pulumi
import pytest

from components.base import PlatformComponent, formerly
from components.security.api_key import ApiKey, ApiKeyArgs
from tests.engine.conftest import Engine, export

pytestmark = pytest.mark.engine


class ClientKey(ApiKey):
    """The component under another class name."""

    former_tokens: ClassVar[tuple[str, ...]] = ("cogniforge:security:ApiKey",)


class Unnamed(ApiKey):
    """A component with another class name, without an alias."""


class Area(PlatformComponent):
    """Another parent component."""

    def __init__(self, name: str, old: bool) -> None:
        super().__init__("security", name, {})
        args: ApiKeyArgs = {"namespace": "default", "secret_name": "renamed-key"}
        aliases = [] if old else [pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)]
        key = ApiKey("client", args, pulumi.ResourceOptions(parent=self, aliases=aliases))
        export(key=key.key)
        self.finish({"kind": "", "namespace": "", "name": name, "probe": ""})


def make(cls: type[ApiKey], name: str = "client", aliases: list[pulumi.Alias] | None = None) -> Callable[[], None]:
    def program() -> None:
        args: ApiKeyArgs = {"namespace": "default", "secret_name": "renamed-key"}
        export(key=cls(name, args, pulumi.ResourceOptions(aliases=aliases or [])).key)

    return program


@pytest.mark.parametrize(
    "after",
    [
        make(ClientKey),
        make(ApiKey, "tenant", formerly("client")),
        make(ClientKey, "tenant", formerly("client", *ClientKey.former_tokens)),
        lambda: Area("tenants", old=False) and None,
    ],
    ids=["class", "name", "class and name", "parent"],
)
def test_a_renamed_component_replaces_nothing(engine: Engine, after: Callable[[], None]) -> None:
    key = engine.up(make(ApiKey)).outputs["key"].value
    result = engine.up(after)
    changed = {k: n for k, n in (result.summary.resource_changes or {}).items() if k not in ("same", "create")}
    assert changed == {}
    assert result.outputs["key"].value == key


def test_without_an_alias_the_key_would_be_another(engine: Engine) -> None:
    engine.up(make(ApiKey))
    assert engine.preview(make(Unnamed))["client"] == "create"
