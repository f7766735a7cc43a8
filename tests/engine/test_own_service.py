"""A user's own service in production, through the real engine: a preview shows all resources that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config.parse import parse
from components.platform import Platform
from tests.engine.conftest import Engine
from tests.unit.test_custom_services import EVERYTHING, READER, with_services

pytestmark = pytest.mark.engine
DERIVED = {
    "prod-notes",
    "prod-notes-rpc",
    "prod-notes-outside",
    "prod-notes-api-server",
    "prod-logins-notes",
    "prod-kafka-topic-note.written.v1",
    "prod-kafka-topic-note.counted.v1",
    "prod-kafka-access-notes",
    "prod-mesh-policy-allow-notes",
    "prod-mesh-policy-scrape-notes",
}
"""Names of resources that result from the section of `notes`, except for changes of shared ones."""


def test_a_preview_shows_the_resources_of_an_own_service(tmp_path: Path) -> None:
    own = {"notes": EVERYTHING, "audit_reader": {**READER, "replicas": 2}}
    engine = Engine(tmp_path, "prod", KUBECONFIG=str(tmp_path / "none"))
    with_it = engine.preview(lambda: _platform(with_services("prod", **own)))
    without = engine.preview(lambda: _platform(with_services("prod")))
    assert set(with_it.values()) == {"create"}
    assert without.keys() <= with_it.keys()
    added = {name for name in with_it.keys() - without.keys() if "audit-reader" not in name}
    assert added >= DERIVED
    assert [name for name in added if "note" not in name] == [], "nothing else is added"


def _platform(data: dict[str, object]) -> None:
    Platform(parse(data), name="prod")
