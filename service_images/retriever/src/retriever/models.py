"""What Retriever's operations take and give: OpenAI's shapes, and a few fields more."""

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
"""Files of a batch. Source: OpenAI's API reference, "Create vector store file batch"."""


class Upload(Model):
    """A form: the file, and what it is for."""

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    purpose: Purpose = "assistants"
    readers: Readers | None = None
    """Who may read it: "user:<id>", "team:<id>", or "*", the whole tenant. Its passages have no other readers."""
    expires_after: FileExpiry | None = None


class FileExpiry(Model):
    """When a file is deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


Upload.model_rebuild()


class StoreExpiry(Model):
    """When a store is emptied: so many days after it was searched or changed last."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class Static(Model):
    """Passages of a given length."""

    max_chunk_size_tokens: Annotated[int, Field(ge=50, le=256)] = 200
    """The embedding model reads 256."""
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=128)] = 40

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.chunk_overlap_tokens * 2 > self.max_chunk_size_tokens:
            raise ValueError("chunk_overlap_tokens: at most half of max_chunk_size_tokens")
        return self


class Chunking(Model):
    """How a text is cut."""

    type: Literal["auto", "static"] = "auto"
    static: Static = Static()


class NewStore(Model):
    """A store to be."""

    name: Name | None = None
    description: Annotated[str, Field(max_length=1000)] | None = None
    metadata: Attributes | None = None
    expires_after: StoreExpiry | None = None
    file_ids: Annotated[tuple[FileId, ...], Field(max_length=BATCH)] = ()
    chunking_strategy: Chunking = Chunking()


class StoreChange(Model):
    """What is changed of a store; what is absent stays, and `expires_after: null` ends its expiry."""

    name: Name | None = None
    metadata: Attributes | None = None
    expires_after: StoreExpiry | None = None


class NewStoreFile(Model):
    """A file that shall be in a store."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None
    readers: Readers | None = None
    """Who may find its passages; absent: who may read the file, or where nobody is named there, the whole tenant."""


class StoreFileChange(Model):
    """Other attributes of a file in a store."""

    attributes: Attributes | None


class NewBatch(Model):
    """Files that shall be in a store: `file_ids` with what is said here, or `files` each with its own."""

    file_ids: Annotated[tuple[FileId, ...], Field(min_length=1, max_length=BATCH)] | None = None
    files: Annotated[tuple[NewStoreFile, ...], Field(min_length=1, max_length=BATCH)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None
    readers: Readers | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("either file_ids or files")
        if self.files is not None and (self.attributes, self.chunking_strategy, self.readers) != (None, None, None):
            raise ValueError("attributes, chunking_strategy and readers belong to each entry of files")
        return self

    @property
    def entries(self) -> tuple[NewStoreFile, ...]:
        """One for each file; of a file that is named twice, the last."""
        more: dict[str, Any] = {
            "attributes": self.attributes,
            "chunking_strategy": self.chunking_strategy,
            "readers": self.readers,
        }
        found = self.files or tuple(NewStoreFile(file_id=name, **more) for name in self.file_ids or ())
        return tuple({entry.file_id: entry for entry in found}.values())


class Page(Model):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    """By the time of creation."""
    after: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """What comes after this one in the order; `before`: what comes before it."""
    before: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")] = ""


class FilePage(Page):
    """Which files."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    purpose: Purpose | None = None


class StoreFilePage(Page):
    """Which files of a store."""

    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None


class Ranking(Model):
    """How passages are put in order."""

    ranker: Literal["auto", "default-2024-11-15", "none", "hybrid", "dense", "words"] = "auto"
    """auto, none and OpenAI's own: as hybrid, by meaning and words together."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Scores mean the same for every query, see docs/explanation/services.md."""
    rerank: bool = False
    """Read the best passages once more, sentence by sentence; scores then say how well they answer."""


class Search(Model):
    """A search."""

    query: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=8)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Filter | None = None
    ranking_options: Ranking = Ranking()
    rewrite_query: Literal[False] = False

    @property
    def queries(self) -> tuple[str, ...]:
        """One or more."""
        return (self.query,) if isinstance(self.query, str) else self.query


class Ask(Model):
    """A question that is answered from a store."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    question: Text
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
