"""The documentation: generated pages are current, links are valid, commands exist."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cli.main import app
from components.config.parse import parse
from components.services.record import TENANT_DELETED
from components.services.registry import SERVICES
from tests.stack_files import stack_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MAKE_TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            found += [(page.name, line) for line in block.splitlines() if line.strip()]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("page", ["alerts", "configuration", "commands", "footprint", "json_output"])
def test_the_reference_is_current(page: str) -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert (ROOT / "docs" / "reference" / f"{page.replace('_', '-')}.md").read_text() == generator[page]()


@pytest.mark.parametrize("service", SERVICES)
def test_the_reference_of_an_api_is_current(service: str) -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert (ROOT / "docs" / "reference" / "api" / f"{service}.md").read_text() == generator["api"](service)


def test_the_reference_of_components_is_current() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["component_pages"].pages()
    folder = ROOT / "docs" / "reference" / "components"
    assert {path.name: path.read_text() for path in folder.iterdir()} == pages


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


def _parse(words: list[str]) -> None:
    """Raises the command line's error for an unknown command or option."""
    command, (name, *arguments) = typer.main.get_command(app), words
    command = command.commands[name]
    while commands := getattr(command, "commands", None):
        name, *arguments = arguments
        command = commands[name]
    command.make_context(name, arguments if name not in ("kubectl", "pulumi") else [], resilient_parsing=False).close()


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_in_the_docs_exists(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert set(words[1:]) <= MAKE_TARGETS
    elif words[0] == "forge":
        _parse(words[1:])
    elif words[0] == "eval":
        _parse(shlex.split(words[1].removeprefix("$(").removesuffix(")"))[1:])
    elif words[:3] == ["python3", "-m", "venv"] or words[:2] == ["pip", "install"]:
        # tests/wheel.py does the same; tests/engine/test_plugin_how_to.py enters the page's commands
        assert page in ("components.md", "plugin.md")
    elif words[0] == "kubectl":
        assert page == "alerts.md"  # an end-to-end test runs them
    else:
        assert words[0] == "." or words == ["python"]


def test_the_tutorials_configuration_is_valid() -> None:
    text = (ROOT / "docs/tutorial/first-ten-minutes.md").read_text()
    models = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])["models"]
    data = stack_file("local")
    assert len(parse({**data, "models": models}).models) == 2


def _examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/how-to/routes.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", _examples())
def test_every_example_of_a_route_is_valid(example: str) -> None:
    data = stack_file("local")
    given = yaml.safe_load(example)
    found = parse({**data, **given})
    assert [route.name for route in found.routes] == [route["name"] for route in given.get("routes", [])]
    assert [model.name for model in found.models if "models" in given] == [m["name"] for m in given.get("models", [])]


def test_the_own_service_of_the_guide_is_valid() -> None:
    page = (ROOT / "docs/how-to/own-service.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    data = stack_file("staging")
    own = yaml.safe_load(text)
    assert own["custom"].keys() <= parse({**data, "services": {**data["services"], **own}}).around.records.keys()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {"data": data}
    exec(compile(code, "own-service.md", "exec"), found)
    assert found["config"].around.records["notes"].asks_rest == ("router", "user")


def test_the_record_in_the_guide_for_bundled_services_is_one() -> None:
    page = (ROOT / "docs/contributing/adding-a-service.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(code, "adding-a-service.md", "exec"), found)
    record = found["RECORD"]
    assert record.position == max(one.position for one in SERVICES.values()) + 1
    assert set(record.asks) <= SERVICES.keys() and set(record.consumes) <= {TENANT_DELETED}
    for path in re.findall(r"`((?:components|local)/[a-z_/.]+)`", page):
        assert (ROOT / path).exists() or path == "components/services/notes.py", path


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name[:4] for page in (ROOT / "docs/decisions").glob("0*.md")]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda page: page.name[:4])
def test_a_decision_has_context_options_decision_and_consequences(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Options", "Decision", "Consequences"]
    assert re.search(r"^Status: (proposed|accepted|superseded), 20\d\d-\d\d$", text, re.MULTILINE)
