"""What Prompt's operations take and give."""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from kit import limits
from kit.rest import JsonObject, Model
from pydantic import AfterValidator, Field

NAMED = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
"""A prompt's name, as paths and includes have it."""
TENANT = r"[a-z0-9][a-z0-9-]{0,62}"
LABELLED = r"[a-z0-9][a-z0-9._-]{0,62}"
REFERENCE = re.compile(f"({NAMED})@({LABELLED})")
"""What a template includes: a name, and a label or a number."""
OPERATIONS = frozenset(("diff", "promote", "render", "versions"))
"""What follows a name in a path; a name that ended so could not be told from it."""
PLACES = frozenset(("labels", "splits"))
"""What stands between a name and a label in a path."""


def _reachable(name: str) -> str:
    """A new name: every operation of this API, and Langfuse's, reaches it. Raises ValueError with the rule."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError('the parts between "/" must not be empty, "." or ".."; take the extra "/" or the dots out')
    if len(parts) > 1 and parts[-1] in OPERATIONS:
        raise ValueError(f"the last part must not be {', '.join(sorted(OPERATIONS))}, which are operations")
    if len(parts) > 2 and parts[-2] in PLACES:
        raise ValueError(f"the part before the last must not be {', '.join(sorted(PLACES))}, which are operations")
    return name


Name = Annotated[str, Field(pattern=f"^{NAMED}$"), AfterValidator(_reachable)]
Label = Annotated[str, Field(pattern=f"^{LABELLED}$")]
Text = Annotated[str, Field(max_length=limits.TEMPLATE.most, pattern=r"^[^\x00]*$")]
Note = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
MAX_NUMBER = 2**31 - 1
"""Of a version. Source: PostgreSQL's type int."""
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
LATEST, PRODUCTION = "latest", "production"


class Kind(StrEnum):
    """What a prompt is rendered to."""

    TEXT = "text"
    CHAT = "chat"


class Message(Model):
    """One message of a chat."""

    role: Annotated[str, Field(pattern="^(system|developer|user|assistant)$")]
    content: Text


def _small(content: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size > limits.PROMPT_JSON.most:
        raise ValueError(f"it has {size} bytes as JSON; at most {limits.PROMPT_JSON.most} are possible")
    return content


Small = Annotated[JsonObject, AfterValidator(_small)]


class NewVersion(Model):
    """A version to be; the prompt is made with its first one."""

    name: Name
    type: Kind = Kind.TEXT
    prompt: Text | Annotated[tuple[Message, ...], Field(min_length=1, max_length=50)]
    """A text, or the messages of a chat; Jinja2 templates, which may include others as "name@label" or "name@3"."""
    variables: Annotated[Small, Field(max_length=100)] = Field(default_factory=dict)
    """JSON Schema of each variable; one that is not named is not looked at."""
    config: Small = Field(default_factory=dict)
    """Whatever clients want to find beside it: model, temperature."""
    labels: Annotated[tuple[Label, ...], Field(max_length=20)] = ()
    message: Note = ""
    """Why."""


class Version(Model):
    """A version."""

    name: str
    type: Kind
    version: int
    prompt: str | list[Message]
    variables: dict[str, Any]
    config: dict[str, Any]
    labels: list[str]
    message: str
    actor: str
    created: datetime


class Listed(Model):
    """A prompt in a list."""

    name: str
    type: Kind
    versions: int
    labels: dict[str, int]


class Which(Model):
    """Which version: a number, or where a label is."""

    version: Number | None = None
    label: Label | None = None


class Page(Model):
    """Which prompts."""

    after: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Place(Model):
    """Where a label shall be."""

    version: Number
    protected: bool | None = None
    """A protected label is moved only with the scope "manage"; none: as it was."""


class Placed(Model):
    """Where a label is."""

    label: str
    version: int
    protected: bool


class Promotion(Model):
    """A label moves to where another one is."""

    source: Annotated[Label, Field(alias="from")]
    target: Annotated[Label, Field(alias="to")]
    expected: Annotated[int, Field(ge=0, le=MAX_NUMBER)] | None = None
    """The version that `to` is thought to be at, 0: nowhere; if it is not, nothing moves."""


class Split(Model):
    """Callers are divided between labels."""

    weights: Annotated[dict[Label, Annotated[float, Field(gt=0, le=1_000_000)]], Field(min_length=2, max_length=10)]


class Compared(Model):
    """Two versions."""

    a: Number
    b: Number


class Difference(Model):
    """What is another from version `a` to `b`, as a unified diff of both written out."""

    a: int
    b: int
    diff: str


class Asked(Which):
    """What is to be rendered, with what."""

    split: Label | None = None
    """An A/B test: which label is used follows from `user`."""
    user: Annotated[str, Field(max_length=500)] = ""
    variables: JsonObject = Field(default_factory=dict)


class Rendered(Model):
    """A rendered prompt."""

    name: str
    version: int
    label: str
    type: Kind
    prompt: str | list[Message]
    config: dict[str, Any]
    cached: bool = False
