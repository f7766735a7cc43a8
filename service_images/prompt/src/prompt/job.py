"""Pure functions for templates and variables of tenants, run in a worker process that can be ended.

Arguments and results are JSON values. Problems of the input are returned, not raised.
"""

from __future__ import annotations

from typing import Any

from prompt import sandbox
from prompt.sandbox import MissingVariables, TemplateProblem

ITSELF = "\0"
"""Name of the template that is rendered. It is not a valid reference, so that no include can name it."""


def check(texts: list[str], schemas: dict[str, Any]) -> dict[str, Any]:
    """Includes of a new version's templates. `problems`: all problems as [path, message]."""
    includes: set[str] = set()
    problems: list[list[str]] = []
    for number, text in enumerate(texts):
        try:
            includes |= set(sandbox.includes(text))
        except TemplateProblem as problem:
            problems.append([f"prompt.{number}" if len(texts) > 1 else "prompt", str(problem)])
    if schemas:
        problems += _refused(schemas)
    return {"includes": sorted(includes), "problems": problems}


def _refused(schemas: dict[str, Any]) -> list[list[str]]:
    from kit import json_schema  # a late import: it needs 25 MB, and most prompts do not use it

    problems: list[list[str]] = []
    for name, schema in schemas.items():
        try:
            json_schema.read(schema)
        except json_schema.SchemaRefused as refused:
            problems += [[f"variables.{name}{f'.{p.path}' if p.path else ''}", p.message] for p in refused.problems]
    return problems


def render(
    texts: list[str], parts: dict[str, str], variables: dict[str, Any], schemas: dict[str, Any]
) -> dict[str, Any]:
    """The rendered texts; or `variables`: all missing or invalid ones; or `template`: its problem."""
    given, wrong = dict(variables), list[str]()
    for name, schema in sorted(schemas.items()):
        if name in given:
            wrong += _wrong(name, schema, given[name])
        elif isinstance(schema, dict) and "default" in schema:
            given[name] = schema["default"]
    budget, found, failed = sandbox.Budget(), list[str](), ""
    for text in texts:
        try:
            found.append(sandbox.render({**parts, ITSELF: text}, ITSELF, given, budget))
        except MissingVariables as missing:
            wrong += [reason for reason in missing.reasons if reason not in wrong]
        except TemplateProblem as problem:
            failed = failed or str(problem)
    if wrong:
        return {"variables": wrong}
    return {"template": failed} if failed else {"texts": found}


def _wrong(name: str, schema: Any, value: Any) -> list[str]:
    from kit import json_schema

    try:
        problems = json_schema.read(schema).problems(value)
    except json_schema.SchemaRefused as refused:  # the version was created when more was allowed
        return [f"{name}: its schema is no longer supported; create a new version: {refused}"[:300]]
    return [f"{name}{f'.{p.path}' if p.path else ''}: {p.message}" for p in problems]
