"""Untrusted JSON Schemas: allowed keywords have their standard meaning; evaluation is bounded and fetches nothing."""

from __future__ import annotations

import json
import socket
from typing import Any

import jsonschema
import pytest
import referencing
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import json_schema
from kit.json_schema import SchemaRefused


def reasons(schema: Any) -> dict[str, str]:
    """Reasons of refusal by path."""
    with pytest.raises(SchemaRefused) as refused:
        json_schema.read(schema)
    return {problem.path: problem.message for problem in refused.value.problems}


# --- refused schemas ------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$recursiveRef", "$schema", "$id"])
@pytest.mark.parametrize("place", ["{}", '{{"properties": {{"a": {}}}}}', '{{"$defs": {{"a": {{"not": {}}}}}}}'])
def test_no_reference_leaves_the_schema(keyword: str, place: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        inner = json.dumps({keyword: f"http://127.0.0.1:{listening.getsockname()[1]}/schema"})
        assert any(path.endswith(keyword) for path in reasons(json.loads(place.format(inner))))
        with pytest.raises(TimeoutError):
            listening.accept()


@pytest.mark.parametrize(
    ("schema", "path", "reason"),
    [
        ({"$dynamicRef": "#"}, "$dynamicRef", "use $ref"),
        ({"$ref": "#"}, "", "refers to itself"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "", "refers to itself"),
        ({"$ref": "#/$defs/nobody"}, "$ref", "a missing definition"),
        ({"properties": {"a": {"type": "text"}}}, "properties.a.type", "types are array"),
        ({"properties": {"a": {"minLength": -1}}}, "properties.a.minLength", "-1 is not a whole number"),
        ({"patternProperties": {"(": {}}}, "patternProperties", "not a valid RE2 pattern"),
        ({"pattern": r"(a+)\1+$"}, "pattern", "not a valid RE2 pattern"),
        ({"pattern": "(?:a{1000}){1000}"}, "pattern", "not a valid RE2 pattern"),
        ({"pattern": "a" * 1001}, "pattern", "1001 characters; at most 1000"),
        ({"anyOf": [{"pattern": f"^{n}$"} for n in range(51)]}, "", "51 patterns; at most 50"),
        ({"anyOf": [{}] * 1000}, "", "1001 schemas; at most 1000"),
        ({"description": "x" * 70_000}, "", "at most 65536"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties", "use additionalProperties"),
        ({"minimun": 1}, "minimun", "allowed are"),
        ({"items": [{"type": "string"}]}, "items", "write an object"),
        ({"required": "a"}, "required", "list of different texts"),
        ({"const": "\ud800"}, "", "surrogate"),
        ({"const": float("inf")}, "", "too large"),
        ([], "", "write an object"),
        ("text", "", "write an object"),
        (None, "", "write an object"),
    ],
)
def test_a_schema_that_is_not_allowed_is_refused_with_its_place_and_the_reason(
    schema: Any, path: str, reason: str
) -> None:
    found = reasons(schema)
    assert path in found and reason in found[path]


def test_all_that_is_wrong_is_named_at_once() -> None:
    schema = {"type": "text", "properties": {"a": {"minLength": "1"}, "b": {"$ref": "http://x/"}}}
    assert reasons(schema).keys() == {"type", "properties.a.minLength", "properties.b.$ref"}


def test_a_schema_is_not_nested_without_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"not": schema}
    assert "32 levels" in reasons(schema)[""]
    while schema:
        schema = schema["not"]  # Python cannot deallocate so many levels at once


# --- costly schemas and values --------------------------------------------------------------------


def test_references_that_multiply_end() -> None:
    definitions = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(25)}
    schema = json_schema.read({"$ref": "#/$defs/d0", "$defs": {**definitions, "d25": {"type": "string"}}})
    assert [p.message for p in schema.problems("x")] == [
        f"checking it takes more than {json_schema.MAX_STEPS} steps; send a smaller value, or simplify the schema"
    ]


def test_messages_about_a_large_value_are_bounded() -> None:
    schema = json_schema.read({"anyOf": [{"type": "integer", "title": str(n)} for n in range(900)]})
    (problem,) = schema.problems("x" * 4_000_000)
    assert "steps" in problem.message


@pytest.mark.parametrize("entry", ["object", "list", "mixed"])
def test_many_entries_are_compared_in_linear_steps(entry: str) -> None:
    entries: list[Any] = [{"n": n} if entry == "object" else [n] if entry == "list" else n for n in range(20_000)]
    if entry == "mixed":
        entries = [str(n) if n % 2 else {"n": n} for n in entries]
    schema = json_schema.read({"uniqueItems": True})
    assert schema.problems(entries) == []
    assert schema.problems([*entries, entries[0]])


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*)*x"])
def test_a_pattern_takes_linear_time(pattern: str) -> None:
    assert json_schema.read({"pattern": pattern}).problems("a" * 50_000 + "!")
    assert json_schema.read({"additionalProperties": False, "patternProperties": {pattern: {}}}).problems(
        {"a" * 50_000 + "!": 1}
    )


def test_a_value_is_not_nested_without_end() -> None:
    schema = json_schema.read({"$ref": "#/$defs/tree", "$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}})
    value: list[Any] = []
    for _ in range(20):
        value = [value]
    assert schema.problems(value) == []
    for depth in (40, 100_000):
        for _ in range(depth):
            value = [value]
        (problem,) = schema.problems(value)
        assert "deep" in problem.message
    while value:
        value = value[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, object(), (1,)])
def test_values_that_are_not_json_do_not_validate(value: Any) -> None:
    assert json_schema.read({}).problems(value)


# --- allowed keywords have their standard meaning ------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"multipleOf": 0.1}, [0.3, 1, 10**400], [0.35, 1e-300]),
        ({"multipleOf": 3}, [9, 9.0, "x"], [10, 1e308]),
        (
            {"uniqueItems": True},
            [[1, True, "1", [1], [True], 0, False]],
            [[1, 1.0], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]],
        ),
        ({"patternProperties": {"^x": {"type": "integer"}}}, [{"x": 1, "y": "a"}], [{"xa": "a"}]),
        (
            {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": {"type": "null"}},
            [{"a": 1, "x": 1, "b": None}],
            [{"b": 1}],
        ),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "$ref": "#/definitions/A~1b",
                "definitions": {"A/b": {"const": 1}},
            },
            [1],
            [2],
        ),
        (
            {
                "properties": {"next": {"$ref": "#"}},
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "required": ["v"],
            },
            [{"v": 1, "next": {"v": 2}}],
            [{"v": 1, "next": {}}],
        ),
        ({"const": 10**30, "maximum": 10**40}, [10**30], [10**30 + 1]),
        ({"enum": [[1, 2], ["a"], None]}, [[1, 2], None], [[2, 1], 0]),
    ],
)
def test_a_value_fits_or_does_not(schema: Any, right: list[Any], wrong: list[Any]) -> None:
    read = json_schema.read(schema)
    assert [read.problems(value) for value in right] == [[] for _ in right]
    assert all(read.problems(value) for value in wrong)


def test_a_problem_contains_its_path() -> None:
    schema = json_schema.read({"properties": {"people": {"items": {"properties": {"age": {"minimum": 0}}}}}})
    assert [str(p) for p in schema.problems({"people": [{"age": 1}, {"age": -1}]})] == [
        "people.1.age: -1 is less than the minimum of 0"
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 1.5]) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
COUNTS = st.integers(0, 3)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "minLength": COUNTS,
        "maxItems": COUNTS,
        "minProperties": COUNTS,
        "maximum": COUNTS,
        "exclusiveMinimum": COUNTS,
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        "pattern": st.sampled_from(["^a", "b$", "a+b"]),
        "uniqueItems": st.booleans(),
        "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
        "$ref": st.just("#/$defs/d"),
    },
)
SCHEMAS = st.recursive(
    LEAVES | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), st.lists(inner, min_size=1, max_size=2)),
            **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "propertyNames"), inner),
            "additionalProperties": inner,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
            "dependentSchemas": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "maxContains": COUNTS,
        },
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(schema=SCHEMAS.filter(lambda s: isinstance(s, dict)), definition=LEAVES, value=VALUES)
def test_it_agrees_with_jsonschema(schema: dict[str, Any], definition: dict[str, Any], value: Any) -> None:
    definition.pop("$ref", None)
    whole = {**schema, "$defs": {"d": definition}}
    reference = jsonschema.Draft202012Validator(whole, registry=referencing.Registry())
    assert (json_schema.read(whole).problems(value) == []) is reference.is_valid(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(json_schema.KEYWORDS)) | st.text(), inner),
    max_leaves=30,
)


@settings(max_examples=150)
@given(schema=JSON, value=JSON)
def test_any_schema_is_accepted_or_refused(schema: Any, value: Any) -> None:
    try:
        read = json_schema.read(schema)
    except SchemaRefused as refused:
        assert refused.problems
    else:
        read.problems(value)
