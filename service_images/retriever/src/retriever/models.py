"""What Retriever's operations take and give: OpenAI's shapes, and a few fields more."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from kit.rest import Model
from pydantic import ConfigDict, Field

from retriever.filters import Filter, Key, Value

Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
Reader = Annotated[str, Field(pattern=r"^(\*|(user|team):[A-Za-z0-9._@-]{1,128})$")]
Id = Annotated[str, Field(pattern=r"^[a-z]{2,5}[_-][0-9a-f]{32}$")]
Question = Annotated[str, Field(min_length=1, max_length=8000)]


class Upload(Model):
    """A form: the file, and what it is for."""

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    purpose: Literal["assistants", "user_data"] = "assistants"


class NewStore(Model):
    """A store to be."""

    name: Name = ""
    metadata: Annotated[dict[Key, Value], Field(max_length=16)] = Field(default_factory=dict)


class Static(Model):
    """Passages of a given length."""

    max_chunk_size_tokens: Annotated[int, Field(ge=50, le=256)] = 200
    """The embedding model reads 256."""
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=128)] = 40


class Chunking(Model):
    """How a text is cut."""

    type: Literal["auto", "static"] = "auto"
    static: Static = Static()


class NewStoreFile(Model):
    """A file that shall be in a store."""

    file_id: Id
    attributes: Annotated[dict[Key, Value], Field(max_length=16)] = Field(default_factory=dict)
    chunking_strategy: Chunking = Chunking()
    readers: Annotated[tuple[Reader, ...], Field(min_length=1, max_length=100)] = ("*",)
    """Who may find it: "user:<id>", "team:<id>", or "*": the whole tenant."""


class Page(Model):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")] = ""


class Ranking(Model):
    """How passages are put in order."""

    ranker: Literal["auto", "hybrid", "dense", "words"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    rerank: bool = False
    """Read the best passages once more, sentence by sentence; scores then say how well they answer."""


class Search(Model):
    """A search."""

    query: Question
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Filter | None = None
    ranking_options: Ranking = Ranking()
    rewrite_query: Literal[False] = False


class Ask(Model):
    """A question that is answered from a store."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    question: Question
    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_num_results: Annotated[int, Field(ge=1, le=20)] = 5
    filters: Filter | None = None
    ranking_options: Ranking = Ranking()
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 512


class Cited(Model):
    """A passage that an answer rests on."""

    number: int
    """As the answer writes it: [1]."""
    file_id: str
    filename: str
    quote: str
    score: float
    cited: bool
    """Whether the answer names it; those that it does not were before the model all the same."""


class Answered(Model):
    """An answer with what it rests on."""

    answer: str
    citations: list[Cited]
    model: str
    usage: dict[str, Any]
