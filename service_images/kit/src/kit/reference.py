"""OpenAPI documents as rows of operations and schemas, for readable pages. Pure; the rendering is elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
_SCHEMAS = "#/components/schemas/"
_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Row:
    """A parameter, or a field of an object."""

    name: str
    type: str
    required: bool
    meaning: str
    names: tuple[str, ...] = ()
    """Schemas that occur in the type."""


@dataclass(frozen=True)
class Answer:
    """One response of an operation, by status."""

    status: str
    meaning: str
    type: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """An operation. `scopes`: scopes that its key needs; None if it needs no key."""

    tag: str
    method: str
    path: str
    summary: str
    scopes: tuple[str, ...] | None
    parameters: tuple[Row, ...]
    body: Row | None
    fields: tuple[Row, ...]
    """Fields of an inline body, which has no named schema."""
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Schema:
    """A named type. `type` describes one without fields."""

    name: str
    meaning: str
    type: str
    fields: tuple[Row, ...]


@dataclass(frozen=True)
class Reference:
    """A complete document."""

    title: str
    description: str
    operations: tuple[Operation, ...]
    schemas: tuple[Schema, ...]


def read(document: Json) -> Reference:
    """Read a document; the order of its parts is kept."""
    security = document.get("security")
    operations = tuple(
        _operation(method.upper(), path, {"security": security, **methods[method]})
        for path, methods in document["paths"].items()
        for method in _METHODS
        if method in methods
    )
    schemas = tuple(
        Schema(name, _line(schema.get("description", "")), _type(schema), _fields(schema))
        for name, schema in sorted(document.get("components", {}).get("schemas", {}).items())
    )
    return Reference(document["info"]["title"], document["info"].get("description", ""), operations, schemas)


def merged(title: str, documents: Mapping[str, Json]) -> Json:
    """Merge the documents of several services, by name. Schemas get the service's name as a prefix."""
    found: Json = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1.0.0"},
        "tags": [],
        "paths": {},
        "components": {"schemas": {}, "securitySchemes": {}},
    }
    for service, document in documents.items():
        tag = document["info"]["title"]
        found["tags"].append({"name": tag, "description": document["info"].get("description", "")})
        whole = json.loads(json.dumps(document).replace(_SCHEMAS, f"{_SCHEMAS}{service}."))
        for path, methods in whole["paths"].items():
            own = found["paths"].setdefault(path, {})
            for method, operation in methods.items():
                security = {"security": whole["security"]} if "security" in whole else {}
                own[method] = {**security, **operation, "tags": [tag]}
        components = whole.get("components", {})
        found["components"]["securitySchemes"] |= components.get("securitySchemes", {})
        for name, schema in components.get("schemas", {}).items():
            found["components"]["schemas"][f"{service}.{name}"] = schema
    return found


def _operation(method: str, path: str, operation: Json) -> Operation:
    security = operation.get("security")
    scopes = tuple(scope for way in security for names in way.values() for scope in names) if security else None
    media, schema = _content(operation.get("requestBody", {}))
    body, fields = None, ()
    if media:
        body = Row(media, _type(schema), operation["requestBody"].get("required", False), "", tuple(_names(schema)))
        fields = _fields(schema)
    return Operation(
        tag=(operation.get("tags") or [""])[0],
        method=method,
        path=path,
        summary=operation.get("summary", ""),
        scopes=scopes,
        parameters=tuple(_parameter(one) for one in operation.get("parameters", [])),
        body=body,
        fields=fields,
        answers=tuple(_answer(status, one) for status, one in sorted(operation["responses"].items())),
    )


def _parameter(one: Json) -> Row:
    schema = one.get("schema", {})
    meaning = one.get("description") or schema.get("description", "")
    name = f"{one['name']} ({one['in']})"
    return Row(name, _type(schema), one.get("required", False), _line(meaning, _limits(schema)), tuple(_names(schema)))


def _content(holder: Json) -> tuple[str, Json]:
    """The first media type of a body or response, and its schema."""
    for media, content in holder.get("content", {}).items():
        return media, content.get("schema", {})
    return "", {}


def _answer(status: str, one: Json) -> Answer:
    media, schema = _content(one)
    shown = _type(schema) if media == "application/json" else media
    return Answer(status, _line(one.get("description", "")), shown, tuple(_names(schema)))


def _fields(schema: Json) -> tuple[Row, ...]:
    required = schema.get("required", [])
    return tuple(
        Row(
            name,
            _type(field),
            name in required,
            _line(field.get("description", ""), _limits(field)),
            tuple(_names(field)),
        )
        for name, field in schema.get("properties", {}).items()
    )


def _names(schema: Any) -> Iterator[str]:
    """Names of all schemas in a type, except those in an object's fields."""
    if isinstance(schema, list):
        for one in schema:
            yield from _names(one)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(_SCHEMAS)
        for key in ("anyOf", "oneOf", "allOf", "items", "additionalProperties"):
            yield from _names(schema.get(key))


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_SCHEMAS)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_type({**schema, "type": one}) for one in kind)
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _limits(schema: Json) -> str:
    """Constraints of a schema: sizes, pattern and default value."""
    found = [
        text
        for low, high, unit in (
            ("minimum", "maximum", ""),
            ("minLength", "maxLength", " characters"),
            ("minItems", "maxItems", " entries"),
            ("minProperties", "maxProperties", " entries"),
        )
        if (text := _range(schema.get(low), schema.get(high), unit))
    ]
    if "exclusiveMinimum" in schema:
        found.append(f"more than {schema['exclusiveMinimum']}")
    if "pattern" in schema:
        found.append(f"pattern {schema['pattern']}")
    if "default" in schema:
        found.append(f"default {json.dumps(schema['default'])}")
    return ", ".join(found)


def _range(low: Any, high: Any, unit: str) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low:,}{unit}"
    return f"at most {high:,}{unit}" if low is None else f"{low:,} to {high:,}{unit}"


def _line(text: str, more: str = "") -> str:
    """The first paragraph on one line, with `more` appended."""
    first = " ".join(text.split("\n\n")[0].split())
    return " ".join(filter(None, (first, f"({more})" if first and more else more)))
