"""Requests and responses of the Retriever service's operations: OpenAI's, with a few more fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from kit.rest import Model
from pydantic import ConfigDict, Field, model_validator

from retriever.filters import Filter, Key, Value

Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
READER = r"^(\*|(user|team):[A-Za-z0-9._@-]{1,128})$"
Reader = Annotated[str, Field(pattern=READER)]
FileId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Text = Annotated[str, Field(min_length=1, max_length=8000)]
Attributes = Annotated[dict[Key, Value], Field(max_length=16)]
Readers = Annotated[tuple[Reader, ...], Field(min_length=1, max_length=100)]
Purpose = Literal["assistants", "user_data"]
BATCH = 500
"""Maximum number of files in a batch. Source: OpenAI's API reference, "Create vector store file batch"."""


class Upload(Model):
    """A form with the file and its purpose."""

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    purpose: Purpose = "assistants"
    readers: Readers | None = None
    """Readers of the file: "user:<id>", "team:<id>", or "*" for the whole tenant. They also apply to its passages."""
    expires_after: FileExpiry | None = None


class FileExpiry(Model):
    """When a file is deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


Upload.model_rebuild()


class StoreExpiry(Model):
    """When a store is emptied: days since its last search or change."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class Static(Model):
    """Passages of a fixed length."""

    max_chunk_size_tokens: Annotated[int, Field(ge=50, le=256)] = 200
    """Maximum length in tokens; the embedding model reads 256 at a time."""
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=128)] = 40

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.chunk_overlap_tokens * 2 > self.max_chunk_size_tokens:
            raise ValueError("chunk_overlap_tokens must be at most half of max_chunk_size_tokens")
        return self


class Chunking(Model):
    """How a text is split into passages."""

    type: Literal["auto", "static"] = "auto"
    static: Static = Static()


class NewStore(Model):
    """A store to create."""

    name: Name | None = None
    description: Annotated[str, Field(max_length=1000)] | None = None
    metadata: Attributes | None = None
    expires_after: StoreExpiry | None = None
    file_ids: Annotated[tuple[FileId, ...], Field(max_length=BATCH)] = ()
    chunking_strategy: Chunking = Chunking()


class StoreChange(Model):
    """Changes to a store. Absent fields stay; `expires_after: null` removes the expiry."""

    name: Name | None = None
    metadata: Attributes | None = None
    expires_after: StoreExpiry | None = None


class NewStoreFile(Model):
    """A file to add to a store."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None
    readers: Readers | None = None
    """Readers of the passages. The default is the readers of the file, or the whole tenant if the file names none."""


class StoreFileChange(Model):
    """New attributes of a file in a store."""

    attributes: Attributes | None


class NewBatch(Model):
    """Files to add to a store: `file_ids` with common settings, or `files` with settings for each."""

    file_ids: Annotated[tuple[FileId, ...], Field(min_length=1, max_length=BATCH)] | None = None
    files: Annotated[tuple[NewStoreFile, ...], Field(min_length=1, max_length=BATCH)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None
    readers: Readers | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("set either file_ids or files")
        if self.files is not None and (self.attributes, self.chunking_strategy, self.readers) != (None, None, None):
            raise ValueError("with files, set attributes, chunking_strategy and readers in each entry")
        return self

    @property
    def entries(self) -> tuple[NewStoreFile, ...]:
        """One entry per file; if a file occurs twice, the last entry counts."""
        more: dict[str, Any] = {
            "attributes": self.attributes,
            "chunking_strategy": self.chunking_strategy,
            "readers": self.readers,
        }
        found = self.files or tuple(NewStoreFile(file_id=name, **more) for name in self.file_ids or ())
        return tuple({entry.file_id: entry for entry in found}.values())


class Page(Model):
    """Page of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    """Order of creation."""
    after: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """Id that the page starts after; `before`: id that the page ends before."""
    before: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")] = ""


class FilePage(Page):
    """Filter for files."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    purpose: Purpose | None = None


class StoreFilePage(Page):
    """Filter for files of a store."""

    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None


class Ranking(Model):
    """How passages are ranked."""

    ranker: Literal["auto", "default-2024-11-15", "none", "hybrid", "dense", "words"] = "auto"
    """Accepts auto, none and OpenAI's own names as hybrid: vector and keyword search combined."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Scores are comparable between queries, see docs/explanation/services.md."""
    rerank: bool = False
    """Rerank the best passages sentence by sentence; the score is then the relevance to the query."""


class Search(Model):
    """A search."""

    query: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=8)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Filter | None = None
    ranking_options: Ranking = Ranking()
    rewrite_query: Literal[False] = False

    @property
    def queries(self) -> tuple[str, ...]:
        """One or more queries."""
        return (self.query,) if isinstance(self.query, str) else self.query


class Ask(Model):
    """A question to answer from a store."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    question: Text
    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_num_results: Annotated[int, Field(ge=1, le=20)] = 5
    filters: Filter | None = None
    ranking_options: Ranking = Ranking()
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 512


class Cited(Model):
    """A passage that supports an answer."""

    number: int
    """Citation mark in the answer, such as [1]."""
    file_id: str
    filename: str
    quote: str
    score: float
    cited: bool
    """Whether the answer cites the passage; the model received uncited ones too."""


class Answered(Model):
    """An answer with its sources."""

    answer: str
    citations: list[Cited]
    model: str
    usage: dict[str, Any]
