"""JSON Schemas of a user's own topics, as written in the stack file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, cast

from pydantic import AfterValidator

from components.config.problems import violation

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft of the platform's own schemas, which every version of the registry compares."""
MOST_BYTES = 16_384
"""Of one schema."""
MOST_BYTES_TOGETHER = 65_536
"""Of all own schemas. The registry's task receives them in one variable, whose limit in Linux is 131,072 bytes."""
_SHOWN = 160


def text(schema: dict[str, Any]) -> str:
    """A schema as the registry stores it: JSON, with sorted keys. Raises TypeError or ValueError if it is not JSON."""
    return json.dumps(schema, sort_keys=True, allow_nan=False)


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(text(schema))
    except (TypeError, ValueError) as error:
        raise violation(f"values of JSON only: {error}", "quote dates, and write numbers as JSON does") from None
    if size > MOST_BYTES:
        raise violation(f"at most {MOST_BYTES} bytes; it has {size}", "split the topic, or remove descriptions")
    if schema.get("$schema", DRAFT) != DRAFT:
        raise violation(f"a JSON Schema of draft-07, not of {schema['$schema']}", f'set $schema to "{DRAFT}"')
    # This import takes over a second, which only who has schemas should pay.
    from jsonschema import Draft7Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft7Validator.check_schema(schema)
    except SchemaError as error:
        raise violation(
            f"a JSON Schema of draft-07; {error.json_path}: {error.message[:_SHOWN]}", "correct this keyword"
        ) from None
    for reference in _references(schema):
        if not _resolves(schema, reference):
            fix = "copy the definition into the schema, below definitions"
            raise violation(f'references to its own parts, such as "#/definitions/x", not to {reference}', fix)
    return schema


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        if isinstance(reference := members.get("$ref"), str):
            yield reference
        for member in members.values():
            yield from _references(member)
    elif isinstance(value, list):
        for member in cast("list[object]", value):
            yield from _references(member)


def _resolves(schema: object, reference: str) -> bool:
    """Whether a reference is a pointer (RFC 6901) to a part of the schema."""
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    found = schema
    for step in reference.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return False
        found = cast("dict[str, object]", found)[name]
    return True


TopicSchema = Annotated[dict[str, Any], AfterValidator(_checked)]
"""JSON Schema of the values of a topic."""
