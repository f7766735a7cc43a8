"""The annotation `pulumi.com/waitFor`: rules for an object's readiness.

Its value is one rule or a JSON list of rules, all of which must hold. A rule is `condition=TYPE`,
`condition=TYPE=STATUS`, `jsonpath={PATH}` or `jsonpath={PATH}=VALUE`.
Source: the documentation of pulumi-kubernetes, "Await logic".
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jsonpath
from jsonpath.exceptions import JSONPathError

ANNOTATION = "pulumi.com/waitFor"
_PARSER = jsonpath.JSONPathEnvironment(strict=True)
_FORMS = "use condition=TYPE, condition=TYPE=STATUS, jsonpath={PATH} or jsonpath={PATH}=VALUE"


class RuleError(ValueError):
    """A rule is invalid. The message contains the rule and the valid forms."""


@dataclass(frozen=True)
class Condition:
    """Rule that requires a condition in the object's status."""

    type: str
    status: str

    def holds(self, obj: dict[str, Any]) -> bool:
        """Whether the object has the condition for its current definition. Names are compared as in `kubectl wait`."""
        status = obj.get("status") or {}
        for found in status.get("conditions") or []:
            if str(found.get("type", "")).casefold() != self.type.casefold():
                continue
            observed = found.get("observedGeneration", status.get("observedGeneration"))
            current = observed is None or observed >= obj["metadata"].get("generation", 0)
            return current and str(found.get("status", "")).casefold() == self.status.casefold()
        return False


@dataclass(frozen=True)
class Field:
    """Rule that requires a field to exist, or to have a value."""

    path: Any
    """The compiled path."""
    value: str | None

    def holds(self, obj: dict[str, Any]) -> bool:
        """Whether the first value at the path exists and has the required value."""
        found: list[Any] = self.path.findall(obj)
        return bool(found) and (self.value is None or _text(found[0]) == self.value)


Rule = Condition | Field


def _text(value: Any) -> str | None:
    """A JSON scalar in the annotation's notation; None for lists and objects."""
    if isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else json.dumps(value)


@functools.lru_cache(maxsize=256)
def parse(annotation: str) -> tuple[Rule, ...]:
    """Parse the rules of an annotation, all of which must hold. Raises RuleError."""
    return tuple(_rule(text) for text in _texts(annotation))


def _texts(annotation: str) -> Sequence[str]:
    if not annotation.lstrip().startswith("["):
        return [annotation]
    try:
        found = json.loads(annotation)
    except ValueError as error:
        raise RuleError(f"{annotation!r} is not a JSON list: {error}") from None
    if not found or not all(isinstance(one, str) for one in found):
        raise RuleError(f"{annotation!r} must be a JSON list of at least one string; {_FORMS}")
    return found


def _rule(text: str) -> Rule:
    kind, _, rest = text.strip().partition("=")
    if kind == "condition" and rest:
        name, _, status = rest.partition("=")
        if name:
            return Condition(name, status or "True")
    if kind == "jsonpath":
        return _field(text, rest)
    raise RuleError(f"{text!r} is not a valid rule; {_FORMS}")


def _field(text: str, rest: str) -> Field:
    end = _closing(rest)
    if not rest.startswith("{") or end is None:
        raise RuleError(f"{text!r}: the path must be in braces, such as {{.status.phase}}; {_FORMS}")
    path, after = rest[1:end].strip(), rest[end + 1 :]
    if after and (not after.startswith("=") or after == "="):
        raise RuleError(f"{text!r}: after the path comes =VALUE or nothing; {_FORMS}")
    if after.startswith("={"):
        raise RuleError(f"{text!r} compares with another path; the value must be literal")
    try:
        return Field(_PARSER.compile(path if path.startswith("$") else f"${path}"), after[1:] or None)
    except JSONPathError as error:
        raise RuleError(f"{text!r}: {str(error).splitlines()[0]}") from None


def _closing(text: str) -> int | None:
    """Index of the brace that closes the one at the start of `text`. Braces inside quotes do not count."""
    depth, quote = 0, ""
    characters = iter(enumerate(text))
    for index, character in characters:
        if quote:
            if character == "\\":
                next(characters, None)
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index
    return None
