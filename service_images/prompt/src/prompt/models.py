"""Requests and responses of the Prompt service's operations."""

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
"""A prompt's name, as in paths and includes."""
TENANT = r"[a-z0-9][a-z0-9-]{0,62}"
LABELLED = r"[a-z0-9][a-z0-9._-]{0,62}"
REFERENCE = re.compile(f"({NAMED})@({LABELLED})")
"""Reference to an included prompt: a name, and a label or a number."""
OPERATIONS = frozenset(("diff", "promote", "render", "versions"))
"""Path segments that follow a name; a name with such an ending would be ambiguous."""
PLACES = frozenset(("labels", "splits"))
"""Path segments between a name and a label."""


def _reachable(name: str) -> str:
    """Check that every operation of this API and of Langfuse's can address a new name. Raises ValueError."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError('the parts between "/" must not be empty, "." or ".."; remove the extra "/" or the dots')
    if len(parts) > 1 and parts[-1] in OPERATIONS:
        raise ValueError(f"the last part must not be {', '.join(sorted(OPERATIONS))}: these are operations")
    if len(parts) > 2 and parts[-2] in PLACES:
        raise ValueError(f"the second last part must not be {', '.join(sorted(PLACES))}: these are operations")
    return name


Name = Annotated[str, Field(pattern=f"^{NAMED}$"), AfterValidator(_reachable)]
Label = Annotated[str, Field(pattern=f"^{LABELLED}$")]
Text = Annotated[str, Field(max_length=limits.TEMPLATE.most, pattern=r"^[^\x00]*$")]
Note = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
MAX_NUMBER = 2**31 - 1
"""Highest number of a version. Source: PostgreSQL's type int."""
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
LATEST, PRODUCTION = "latest", "production"


class Kind(StrEnum):
    """Result type of rendering a prompt."""

    TEXT = "text"
    CHAT = "chat"


class Message(Model):
    """One message of a chat."""

    role: Annotated[str, Field(pattern="^(system|developer|user|assistant)$")]
    content: Text


def _small(content: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size > limits.PROMPT_JSON.most:
        raise ValueError(f"it has {size} bytes as JSON; the maximum is {limits.PROMPT_JSON.most}")
    return content


Small = Annotated[JsonObject, AfterValidator(_small)]


class NewVersion(Model):
    """A version to create; the first version creates the prompt."""

    name: Name
    type: Kind = Kind.TEXT
    prompt: Text | Annotated[tuple[Message, ...], Field(min_length=1, max_length=50)]
    """A text, or the messages of a chat: Jinja2 templates, which may include others as "name@label" or "name@3"."""
    variables: Annotated[Small, Field(max_length=100)] = Field(default_factory=dict)
    """JSON Schema of each variable; unnamed variables are not validated."""
    config: Small = Field(default_factory=dict)
    """Free-form data for clients, such as model and temperature."""
    labels: Annotated[tuple[Label, ...], Field(max_length=20)] = ()
    message: Note = ""
    """Reason for the version, like a commit message."""


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
    """A version, given by its number or by a label."""

    version: Number | None = None
    label: Label | None = None


class Page(Model):
    """Page of the tenant's prompts."""

    after: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Place(Model):
    """Target of a label."""

    version: Number
    protected: bool | None = None
    """Moving a protected label needs the scope "manage"; null leaves the protection unchanged."""


class Placed(Model):
    """Position of a label."""

    label: str
    version: int
    protected: bool


class Promotion(Model):
    """A label moves to the version of another label."""

    source: Annotated[Label, Field(alias="from")]
    target: Annotated[Label, Field(alias="to")]
    expected: Annotated[int, Field(ge=0, le=MAX_NUMBER)] | None = None
    """The version that the label `to` is expected to have (0: none); otherwise nothing moves."""


class Split(Model):
    """Shares of callers per label."""

    weights: Annotated[dict[Label, Annotated[float, Field(gt=0, le=1_000_000)]], Field(min_length=2, max_length=10)]


class Compared(Model):
    """Two versions to compare."""

    a: Number
    b: Number


class Difference(Model):
    """Difference between the versions `a` and `b`, as a unified diff of their JSON."""

    a: int
    b: int
    diff: str


class Asked(Which):
    """The version to render, and the variables."""

    split: Label | None = None
    """An A/B test: the value of `user` determines the label."""
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
