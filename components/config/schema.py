"""Writes the JSON Schemas of stack files, which editors and CI use: `python -m components.config.schema`."""

from __future__ import annotations

import json
from pathlib import Path

from components import sources
from components.config.platform import PlatformConfig


def json_schema() -> str:
    """The JSON Schema of the platform's configuration, the text of stacks/platform.schema.json."""
    schema = PlatformConfig.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"


def stack_schema() -> str:
    """The JSON Schema of a whole stack file, which holds the platform's configuration under one key."""
    platform = {"$ref": "platform.schema.json"}
    config = {"type": "object", "required": ["cogniforge:platform"], "properties": {"cogniforge:platform": platform}}
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "CogniForge stack file",
        "type": "object",
        "required": ["config"],
        "properties": {"config": config},
    }
    return json.dumps(content, indent=2) + "\n"


def write(folder: Path) -> None:
    """Write both schemas into a folder of stack files."""
    (folder / "platform.schema.json").write_text(json_schema())
    (folder / "pulumi-stack.schema.json").write_text(stack_schema())


if __name__ == "__main__":
    write(sources.project() / "stacks")
