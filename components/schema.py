"""`python -m components.schema`: writes the JSON Schemas that editors and CI check the stack files with."""

from __future__ import annotations

import json
from pathlib import Path

from components.config import json_schema

FOLDER = Path(__file__).resolve().parent.parent / "stacks"


def stack_schema() -> str:
    """The schema of a whole stack file, which holds the platform's configuration under one key."""
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


def write() -> None:
    """Write both files."""
    (FOLDER / "platform.schema.json").write_text(json_schema())
    (FOLDER / "pulumi-stack.schema.json").write_text(stack_schema())


if __name__ == "__main__":
    write()
