"""A user's own service, as written in the stack file; it becomes a record like those of the bundled services."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from components.config.base import Change, DnsLabel, Section, matching, setting, several
from components.config.topic_schema import TopicSchema
from components.services.record import PORT, RPC_PORT, Body, Bundled, Objectives

_LABEL = "[a-z]([a-z0-9]|-(?=[a-z0-9]))*"
_SEGMENT = r"[A-Za-z0-9._~-]+"
_WORD = "[a-z0-9]+"
_LONGEST_NAME = 18
"""Of a service. Names of IAM roles, "<environment>-object-store-<service>-<7 digits>", stay within AWS' 64."""
_LONGEST_BUCKET = 14
"""Of a bucket. In S3 its name follows "cogniforge-<environment>-<account>-", and has 63 characters at most."""
ServiceName = Annotated[
    str,
    Field(max_length=_LONGEST_NAME),
    matching(_LABEL, "a letter, then lower-case letters, digits and single hyphens", 'write it like "my-notes"'),
]
ImageReference = Annotated[
    str,
    Field(max_length=400),
    matching(
        r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}",
        "an image by digest, without a tag: registry/path@sha256:<64 hexadecimal digits>",
        "replace the tag by the digest, which `crane digest IMAGE` or `docker inspect` shows, or use build: <folder>",
    ),
]
Folder = Annotated[
    str,
    Field(max_length=300),
    matching(
        r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*",
        "a folder below the one of Pulumi.yaml, with a Containerfile and src/",
        'write it like "services/notes", without a leading slash and without ".."',
    ),
]
UrlPath = Annotated[
    str, Field(max_length=200), matching(rf"(/{_SEGMENT})+", "an absolute path", 'write it like "/readyz"')
]
PrefixPath = Annotated[
    str,
    Field(max_length=200),
    matching(
        rf"(/{_SEGMENT})+/?",
        'an absolute path of plain segments; it may end with "/"',
        'write it like "/v1/notes", without spaces, wildcards and encoded characters',
    ),
]
Topic = Annotated[
    str,
    Field(max_length=200),
    matching(
        rf"{_WORD}([.-]{_WORD})*\.v[1-9]\d*",
        "lower-case words joined by dots and hyphens, with a version at the end",
        'write it like "note.written.v1"',
    ),
]
Subject = Annotated[
    str,
    Field(max_length=200),
    matching(
        r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*",
        "lower-case words joined by dots, without wildcards",
        'write it like "notes.written"',
    ),
]
KeyBucket = Annotated[
    str,
    Field(max_length=40),
    matching(r"[a-z][a-z0-9_]*", "lower-case letters, digits and underscores", 'write it like "note_limits"'),
]
Bucket = Annotated[
    str, Field(max_length=_LONGEST_BUCKET), matching("[a-z0-9]+(-[a-z0-9]+)*", "a bucket name", 'write it like "notes"')
]
Extension = Annotated[
    str, Field(max_length=60), matching("[a-z][a-z0-9_-]*", "the name of an extension", 'write it like "vector"')
]
Variable = Annotated[
    str,
    Field(max_length=100),
    matching("[A-Z][A-Z0-9_]*", "capital letters, digits and underscores", 'write it like "NOTES_LIMIT"'),
]
SecretName = Annotated[
    str,
    Field(max_length=40),
    matching("[a-z][a-z0-9_]*", "lower-case letters, digits and underscores", 'write it like "signing"'),
]
Port = Annotated[int, Field(ge=1024, le=65535)]
Names = tuple[ServiceName, ...]


class Keys(StrEnum):
    """Who looks at the API keys that callers show. The gateway passes them on where the environment has User."""

    DIRECTORY = "directory"
    """The service follows the directory of keys in NATS, as services on the kit do; a revocation takes a second."""
    ASKED = "asked"
    """The service asks User over REST (`GET /v1/self`) with the key of its caller."""
    NONE = "none"
    """Nobody: whoever reaches the gateway may call the service, if the environment has User."""


class CustomPrefix(Section):
    """Paths at the gateway that belong to the service."""

    path: PrefixPath = setting(Change.DISRUPTIVE, 'With a "/" at the end: all below it; without: the path itself too')
    body: Body = setting(Change.SAFE, "Largest bodies: small, text or large", default=Body.SMALL, strict=False)
    encoded_names: bool = setting(
        Change.SAFE, "Names below the prefix may hold slashes, sent as %2F, which the service decodes", default=False
    )


class CustomDatabase(Section):
    """A PostgreSQL database with a login, both of the service's name."""

    extensions: tuple[Extension, ...] = several(Change.SAFE, "PostgreSQL extensions in it", 20)
    migrate: tuple[str, ...] = several(
        Change.SAFE,
        "Command in the image that brings the tables up to date before each start; empty: the service does it itself",
        50,
    )


class CustomTopics(Section):
    """Topics of Kafka. A topic that the service writes is made for it."""

    produces: tuple[Topic, ...] = several(Change.DISRUPTIVE, "Topics that the service writes itself", 100)
    outbox: tuple[Topic, ...] = several(
        Change.DISRUPTIVE,
        "Topics that change data capture fills from the table events.outbox of the service's database",
        100,
    )
    consumes: tuple[Topic, ...] = several(
        Change.DISRUPTIVE, "Topics that it reads, in consumer groups whose names begin with its own", 100
    )
    schemas: dict[Topic, TopicSchema] = setting(
        Change.SAFE,
        "JSON Schema (draft-07) of the values of topics that it writes; new versions must accept old values",
        default={},
        max_length=100,
    )


class CustomSubjects(Section):
    """NATS: subjects and key-value buckets."""

    sends: tuple[Subject, ...] = several(Change.DISRUPTIVE, "Subjects that it publishes to", 100)
    hears: tuple[Subject, ...] = several(Change.DISRUPTIVE, "Subjects that it subscribes to", 100)
    keeps: tuple[KeyBucket, ...] = several(Change.DISRUPTIVE, "Key-value buckets that it alone writes", 50)
    follows: tuple[KeyBucket, ...] = several(Change.DISRUPTIVE, "Key-value buckets that it reads", 50)


class CustomObjectives(Section):
    """What the service promises; its alerts follow from this."""

    availability: float = setting(
        Change.SAFE,
        "Share of requests in 30 days that do not fail",
        default=Objectives.availability,
        ge=0.5,
        lt=1,
        strict=False,
    )
    latency_seconds: float = setting(Change.SAFE, "Within this time", default=1.0, gt=0, le=3600, strict=False)
    latency_share: float = setting(
        Change.SAFE, "this share of requests is answered", default=Objectives.latency_share, gt=0, lt=1, strict=False
    )


class SecretsIn(StrEnum):
    """Where the containers of a service find its secrets."""

    FILES = "files"
    """One file each in /var/run/secrets/service, named like the variable. A new value arrives without a restart."""
    ENVIRONMENT = "environment"
    """Environment variables, for a program that reads no files."""


class SecretEntry(Section):
    """An entry of a Secret in the platform's namespace, which the operator makes."""

    secret: DnsLabel = setting(Change.SAFE, "The Secret's name")
    entry: str = setting(Change.SAFE, "The entry's key", min_length=1, max_length=200)


class Service(Bundled):
    """A service of your own."""

    image: ImageReference | None = setting(Change.SAFE, "Its image by digest, in a registry of yours", default=None)
    build: Folder | None = setting(
        Change.SAFE, "With images.source: local-build: the folder that its image is built from", default=None
    )
    title: str = setting(Change.SAFE, "Its name for people; empty: made of its name", default="", max_length=60)
    about: str = setting(Change.SAFE, "What it does, in one line", default="", max_length=200)
    port: Port = setting(Change.DISRUPTIVE, "Where it serves REST, health and metrics", default=PORT)
    rpc_port: Port = setting(Change.DISRUPTIVE, "Where it serves gRPC, if services ask it", default=RPC_PORT)
    ready_path: UrlPath = setting(Change.SAFE, "Answers 200 when it takes requests", default="/readyz")
    live_path: UrlPath = setting(Change.SAFE, "Answers 200 as long as it need not be restarted", default="/healthz")
    metrics: bool = setting(Change.SAFE, "It shows metrics for Prometheus at /metrics of its port", default=True)
    document: UrlPath | None = setting(
        Change.SAFE, "Path of its OpenAPI document, shown at /openapi/<name>.json of the gateway", default=None
    )
    prefixes: tuple[CustomPrefix, ...] = several(Change.DISRUPTIVE, "Its paths at the gateway", 50)
    keys: Keys | None = setting(
        Change.DISRUPTIVE,
        "Required with prefixes: who looks at callers' API keys (directory, asked or none)",
        default=None,
        strict=False,
    )
    scopes: tuple[str, ...] = several(Change.SAFE, "Scopes that the service asks of a key, in SERVICE_SCOPES", 20)
    asks: Names = several(
        Change.DISRUPTIVE, "Services that it calls over gRPC, at SERVICE_<NAME>, with a token for each", 50
    )
    asks_rest: Names = several(Change.DISRUPTIVE, "Services that it calls over REST, at SERVICE_<NAME>_URL", 50)
    callers: Names = several(
        Change.DISRUPTIVE, "Services that may call it over REST, besides those that name it in asksRest", 50
    )
    database: CustomDatabase | None = setting(Change.DISRUPTIVE, "Its database", default=None)
    kafka: CustomTopics = setting(Change.DISRUPTIVE, "Its topics", default=CustomTopics())
    nats: CustomSubjects = setting(Change.DISRUPTIVE, "Its subjects and key-value buckets", default=CustomSubjects())
    cache: bool = setting(Change.DISRUPTIVE, "It has a login at the cache, for keys below `<name>:`", default=False)
    buckets: tuple[Bucket, ...] = several(Change.DISRUPTIVE, "Its buckets in the object store", 20)
    egress: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = several(
        Change.SAFE, "TCP ports at which it reaches addresses outside the cluster", 20
    )
    environment: dict[Variable, str] = setting(
        Change.SAFE, "Environment variables of its own", default={}, max_length=100
    )
    secrets: dict[Variable, SecretEntry] = setting(
        Change.SAFE, "Secrets that you make, under these names", default={}, max_length=100
    )
    secrets_in: SecretsIn = setting(
        Change.SAFE,
        "Where it finds its secrets and passwords: in files of /var/run/secrets/service, or in environment variables",
        default=SecretsIn.FILES,
        strict=False,
    )
    own_secrets: tuple[SecretName, ...] = several(
        Change.DISRUPTIVE,
        "Secrets that are generated once for the service alone, as SERVICE_<NAME>_SECRET; they are never rotated",
        20,
    )
    objectives: CustomObjectives = setting(Change.SAFE, "What it promises", default=CustomObjectives())
    scratch_mib: int = setting(Change.SAFE, "MiB of /tmp", default=64, ge=1, le=100_000)
