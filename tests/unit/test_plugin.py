"""The plugin: every component with plain inputs, for programs in any language."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.errors import InputPropertiesError

from components.base import PART_OF, PlatformComponent
from components.catalogue import platform_version
from components.mesh.gateway import Gateway
from components.plugin.analyzer import args_type, fields_of
from components.plugin.offered import INTERNAL, OFFERED
from components.plugin.provider import LibraryProvider, in_schema
from tests.unit.library_examples import COMPONENTS, Registered, file_of, ran, used
from tests.unit.test_component_resources import classes

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "reference" / "components.schema.json"
each = pytest.mark.parametrize("component", COMPONENTS, ids=lambda one: one.__name__)
Component = type[PlatformComponent]


@functools.cache
def provider() -> LibraryProvider:
    return LibraryProvider(list(OFFERED), PART_OF, platform_version())


def resource(component: Component) -> dict[str, Any]:
    assert provider().schema
    return json.loads(provider().schema or "")["resources"][f"{PART_OF}:index:{component.__name__}"]


def inputs_of(component: Component) -> dict[str, Any]:
    """The inputs of the example as another language sends them: camelCase, and numbers as floating-point ones."""
    found = in_schema(_known(used(component).args), args_type(component))
    return json.loads(json.dumps(found), parse_int=float)


def _known(value: Any) -> Any:
    """Inputs of an example, with a text for the secret that is known when the program runs."""
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_known(one) for one in value]
    return "not-a-real-secret" if isinstance(value, pulumi.Output) else value


REQUIRED = [one for one in COMPONENTS if any(field.is_required() for field in OFFERED[one].model_fields.values())]
with_required = pytest.mark.parametrize("component", REQUIRED, ids=lambda one: one.__name__)


def state(component: Component, inputs: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    token = f"{PART_OF}:index:{component.__name__}"
    ran(lambda: found.append(provider().construct("mine", token, inputs).state))
    return found[0]


def refusal(component: Component, inputs: dict[str, Any]) -> InputPropertiesError:
    with pytest.raises(InputPropertiesError) as caught:
        state(component, inputs)
    return caught.value


def paths(error: InputPropertiesError) -> set[str]:
    return {one["property_path"] for one in error.errors or ()}


def test_every_component_is_offered_or_has_a_reason_not_to_be() -> None:
    assert {one.__name__ for one in classes()} == {one.__name__ for one in OFFERED} | set(INTERNAL)
    assert not {one.__name__ for one in OFFERED} & set(INTERNAL)


@each
def test_every_component_is_made_from_its_example(component: Component) -> None:
    use = used(component)
    assert [one for one in use.registered if not one.typ.startswith(PART_OF)]
    assert type(use.component) is component


def test_every_example_is_one_of_a_component() -> None:
    assert {one.name for one in file_of(COMPONENTS[0]).parent.glob("[a-z]*.py")} == {
        file_of(component).name for component in COMPONENTS
    }


@each
def test_another_language_makes_the_same_resources(component: Component) -> None:
    use = used(component)
    token = f"{PART_OF}:index:{component.__name__}"
    made = ran(lambda: provider().construct(use.name, token, inputs_of(component)))
    assert rendered(made) == rendered(use.registered)


def rendered(registered: Registered) -> dict[str, Any]:
    """Resources that are created outside of the program, by type and name."""
    found = {(one.typ, one.name): one.inputs for one in registered if not one.typ.startswith(PART_OF)}
    return json.loads(json.dumps({f"{kind} {name}": one for (kind, name), one in found.items()}, default=_unknown))


def _unknown(_: object) -> str:
    return "known later"


@each
def test_every_output_in_the_schema_is_given(component: Component) -> None:
    found = state(component, inputs_of(component))
    known = resource(component)
    assert set(known["required"]) <= set(found) <= set(known["properties"])


@with_required
def test_missing_inputs_are_named_all_at_once(component: Component) -> None:
    error = refusal(component, {})
    assert set(resource(component)["requiredInputs"]) <= paths(error)
    assert error.message.startswith(f'{component.__name__} "mine" has ')
    assert "_" not in " ".join(paths(error))


@with_required
def test_an_unknown_input_is_refused_beside_a_missing_one(component: Component) -> None:
    inputs = inputs_of(component)
    (missing, *_) = resource(component)["requiredInputs"]
    error = refusal(component, {key: one for key, one in inputs.items() if key != missing} | {"sise": 1})
    assert {"sise", missing} <= paths(error)


@each
def test_the_model_behind_a_component_has_the_inputs_of_its_type(component: Component) -> None:
    described = resource(component)
    fields = {name: field for name, field in OFFERED[component].model_fields.items() if not field.exclude}
    assert set(fields_of(args_type(component))) == set(fields)
    required = {field.alias for field in fields.values() if field.is_required()}
    assert set(described.get("requiredInputs", ())) == required


@each
def test_every_input_and_output_is_described(component: Component) -> None:
    described = resource(component)
    both = {**described["inputProperties"], **described["properties"]}
    assert [name for name, one in both.items() if not one.get("description")] == []
    assert described["description"]


_VALUES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just([]) | st.just({})


def test_a_gateway_may_have_no_keys() -> None:
    assert state(Gateway, {**inputs_of(Gateway), "keys": {}})["health"]


@given(st.data())
def test_no_inputs_end_in_a_traceback(data: st.DataObject) -> None:
    component = data.draw(st.sampled_from(COMPONENTS))
    known = inputs_of(component)
    names = st.sampled_from([*resource(component)["inputProperties"], "more"])
    changed = data.draw(st.dictionaries(names, _VALUES, max_size=3))
    removed = data.draw(st.sets(st.sampled_from([*known]), max_size=2))
    inputs = {key: one for key, one in {**known, **changed}.items() if key not in removed}
    try:
        assert state(component, inputs)["health"]
    except InputPropertiesError as error:
        assert error.errors


def test_the_schema_in_the_docs_is_current() -> None:
    found = {part: json.loads(provider().schema or "")[part] for part in ("resources", "types")}
    known = json.loads(SCHEMA.read_text())
    if os.environ.get("UPDATE_GOLDEN"):
        known |= found
        SCHEMA.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    assert {part: known[part] for part in found} == found


def test_settings_of_pods_have_one_name() -> None:
    from components.data.nats import Nats

    error = refusal(Nats, inputs_of(Nats) | {"pod": {"nodeSelector": {"disk": "fast"}}, "replicas": 2.0})
    (pod,) = [one for one in error.errors or () if one["property_path"] == "pod"]
    assert "rename it to `customize`" in pod["reason"]


def test_mistakes_in_settings_of_pods_are_shown_with_the_others() -> None:
    from components.data.nats import Nats

    error = refusal(Nats, inputs_of(Nats) | {"customize": {"nodeSelektor": {}}, "storage": "much"})
    assert {"storage", "customize.nodeSelektor"} <= paths(error)


def test_a_secret_output_stays_secret() -> None:
    from components.security.logins import Logins

    found: list[bool] = []
    inputs = inputs_of(Logins)

    def program() -> None:
        made = provider().construct("mine", f"{PART_OF}:index:Logins", inputs).state
        password = made["credentials"]["orders"]["passwords"]["kafka"]
        assert isinstance(password, pulumi.Output)
        pulumi.Output.from_input(password.is_secret()).apply(found.append)

    ran(program)
    assert found == [True]
