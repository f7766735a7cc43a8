"""A user's own service in the commands: it is a part like the bundled services."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

from cli import engine, preview, stack
from cli import status as status_view
from cli.commands import dead_letters
from components import catalogue
from components.config.parse import parse
from components.services.registry import SERVICES
from local.errors import LocalError
from tests.unit.test_custom_services import EVERYTHING, READER, with_services
from tests.unit.test_dead_letters import asked, run

__all__ = ["asked"]
TREE = "urn:pulumi:local::cogniforge::cogniforge:platform:Platform"
POD = {"spec": {"containers": [{"image": "registry/notes@sha256:abc"}]}}
DEPLOYMENT = {
    "metadata": {"name": "notes", "generation": 1},
    "spec": {"replicas": 1, "template": POD},
    "status": {"observedGeneration": 1, "availableReplicas": 1},
}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local environment has two own services, of which one keeps dead letters."""
    config = parse(with_services(notes=EVERYTHING, audit_reader=READER))
    monkeypatch.setattr(stack, "read_config", lambda _: config)


def test_it_has_a_row_in_the_catalogue() -> None:
    records = parse(with_services(notes=EVERYTHING, audit_reader=READER)).around.records.values()
    found = catalogue.parts(records)
    assert set(found) - set(catalogue.PARTS) == {"notes", "audit-reader"}
    row = found["notes"]
    assert (row.title, row.health, row.toggle) == ("Notes", "GET /ready answers 200", "services.custom.notes")
    assert {found[name].token for name in ("notes", "user")} == {"cogniforge:ai:AiService"}


def test_status_shows_it_as_a_part_without_a_released_version(own: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def items(_: Any, path: str) -> list[dict[str, Any]]:
        return [copy.deepcopy(DEPLOYMENT)] if path.endswith("cogniforge/deployments") else []

    monkeypatch.setattr(status_view, "listed", items)
    monkeypatch.setattr(status_view, "connect", lambda *_: SimpleNamespace(configuration=SimpleNamespace()))
    monkeypatch.setattr(status_view, "node_processes", lambda _: [])
    (row,) = status_view.collect("local").rows
    assert (row.name, row.version, row.health) == ("notes", "own", "healthy (1/1)")


@pytest.mark.parametrize("name", ["notes", "audit-reader", "user"])
def test_preview_shows_changes_of_a_service_by_its_name(name: str) -> None:
    parent = f"{TREE}$cogniforge:ai:AiService::local-{name}"
    urn = f"{TREE}$cogniforge:ai:AiService$kubernetes:core/v1:Service::local-{name}-rpc"
    metadata = {"urn": urn, "op": "create", "new": {"parent": parent}}
    found = preview.read("local", engine.Outcome(0, ({"resourcePreEvent": {"metadata": metadata}},), ""))
    assert [step.part for step in found.steps] == [name]


def test_its_dead_letters_are_listed_and_dropped(own: None, asked: list[str]) -> None:
    assert run("list").exit_code == 2
    assert "GET /v1/notes/dead-letters" in asked
    bundled = {name for name, record in SERVICES.items() if record.sets_aside}
    assert {path.split("/")[2] for path in asked} == {*bundled, "notes"}
    assert run("drop", "7", "--service", "notes", "--yes").exit_code == 0
    assert asked[-1] == "DELETE /v1/notes/dead-letters/7"


def test_a_service_without_dead_letters_is_refused_with_those_that_keep_them(own: None, asked: list[str]) -> None:
    for arguments in (["list"], ["show", "7"], ["retry", "7"], ["drop", "7", "--yes"]):
        result = run(*arguments, "--service", "audit-reader")
        assert isinstance(result.exception, LocalError)
        assert "notes" in result.exception.fix and "audit," in result.exception.fix
    assert asked == []


def test_services_are_completed_as_the_environment_has_them(own: None, monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = SimpleNamespace(params={"stack_name": "local"})
    assert dead_letters._begun(context, "no") == ["notes"]

    def broken(_: str) -> None:
        raise LocalError("the stack file is wrong")

    monkeypatch.setattr(stack, "read_config", broken)
    assert dead_letters._begun(context, "bil") == ["billing"]
