"""The configuration: accepted values, and reports of mistakes."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.config.base import quantity
from components.config.parse import parse
from components.config.problems import ConfigError
from components.config.schema import json_schema
from tests.stack_files import stack_file

STACKS = Path(__file__).resolve().parents[2] / "stacks"
MISTAKES = yaml.safe_load(Path(__file__).with_name("config_mistakes.yaml").read_text())


def changed(mistake: dict[str, Any]) -> dict[str, Any]:
    data = copy.deepcopy(stack_file(mistake.get("base", "local")))
    for path, value in mistake.get("set", {}).items():
        *parents, last = path.split(".")
        target = data
        for part in parents:
            target = target.setdefault(part, {})
        target[last] = value
    for path in mistake.get("drop", []):
        *parents, last = path.split(".")
        target = data
        for part in parents:
            target = target[part]
        del target[last]
    return data


@pytest.mark.parametrize("name", ["local", "dev", "staging", "prod"])
def test_each_environment_is_valid(name: str) -> None:
    assert parse(stack_file(name)).environment == name


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m["name"])
def test_a_mistake_is_reported_with_path_limit_and_fix(mistake: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        parse(changed(mistake))
    found = {p.path: p for p in error.value.problems}
    assert mistake["path"] in found
    assert mistake.get("more") or len(found) == 1, "one mistake is one message"
    problem = found[mistake["path"]]
    assert mistake["limit"] in problem.limit
    assert mistake.get("fix", "") in problem.fix
    assert problem.fix


def test_there_are_at_least_forty_negative_fixtures() -> None:
    assert len(MISTAKES) >= 40


def test_all_mistakes_are_reported_at_once() -> None:
    data = stack_file("local")
    data["owner"] = 3
    data["gateway"]["port"] = 0
    data["models"] = [{"name": "same"}, {"name": "same"}]
    data["surprise"] = 1
    with pytest.raises(ConfigError) as error:
        parse(data)
    assert {p.path for p in error.value.problems} == {"owner", "gateway.port", "models", "surprise"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_input_gives_a_configuration_error_and_never_a_crash(data: Any) -> None:
    with pytest.raises(ConfigError):
        parse(data)


@given(
    st.sampled_from(sorted(json.loads(json.dumps(stack_file("local"))))),
    st.none() | st.integers() | st.text() | st.lists(st.integers()),
)
def test_any_value_in_any_section_is_handled(section: str, value: Any) -> None:
    data = stack_file("local")
    data[section] = value
    try:
        parse(data)
    except ConfigError as error:
        assert all(p.limit and p.fix for p in error.problems)


def test_the_error_text_shows_path_value_limit_and_fix() -> None:
    data = stack_file("local")
    data["gateway"]["port"] = 70000
    with pytest.raises(ConfigError, match=r"gateway\.port = 70000\s+limit: at most 65535\s+fix:"):
        parse(data)


def test_every_field_states_the_effect_of_a_change() -> None:
    schema = json.loads(json_schema())
    sections = [schema, *schema["$defs"].values()]
    fields = {(s.get("title"), n): f for s in sections for n, f in s.get("properties", {}).items()}
    unmarked = [
        name for name, field in fields.items() if field.get("x-change") not in {"safe", "disruptive", "immutable"}
    ]
    assert unmarked == []


def test_the_checked_in_schema_is_current() -> None:
    assert (STACKS / "platform.schema.json").read_text() == json_schema()


@pytest.mark.parametrize("name", ["local", "dev", "staging", "prod"])
def test_the_schema_accepts_each_environment(name: str) -> None:
    jsonschema.validate(stack_file(name), json.loads(json_schema()))


def test_the_schema_refuses_an_unknown_field() -> None:
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        jsonschema.validate({**stack_file("local"), "surprise": 1}, json.loads(json_schema()))


@pytest.mark.parametrize(
    ("text", "number"), [("250m", 0.25), ("1", 1), ("1.5", 1.5), ("1Ki", 1024), ("2Gi", 2 * 2**30), ("1k", 1000)]
)
def test_quantities_are_read_as_kubernetes_does(text: str, number: float) -> None:
    assert float(quantity(text)) == number


@given(st.text())
def test_a_bad_quantity_is_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert quantity(text) >= 0


def test_policies_and_configuration_know_the_same_kubernetes_versions() -> None:
    """The policy pack runs in a separate process, which must not load the configuration for a single list."""
    from components.config.eks import SUPPORTED_VERSIONS
    from policies.crossguard import aws_rules

    assert aws_rules._SUPPORTED_KUBERNETES == SUPPORTED_VERSIONS
