"""Rules between a user's own services and everything else: each name, prefix, topic, bucket and subject has one owner,
and services that are named exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from components.config.custom import Service
from components.config.images import ImageSource
from components.config.platform import PlatformConfig
from components.config.problems import Conflict, Location, did_you_mean, format_location
from components.config.topic_schema import MOST_BYTES_TOGETHER
from components.mesh.routes import OPERATORS_DOCUMENTS, OPERATORS_PREFIX
from components.services.record import (
    DEAD_LETTER_HANDLED,
    SHARED_TOPICS,
    TENANT_DELETED,
    TENANT_ERASED,
    ServiceRecord,
)
from components.services.registry import SERVICES

RESERVED_NAMES = frozenset(
    (
        *("admission", "api-key", "base", "brokers", "cache", "capture", "certificate", "change-data-capture"),
        *(
            "collector",
            "connect",
            "data",
            "data-tasks",
            "default-deny",
            "default-egress",
            "end-to-end",
            "exporters",
            "gateway",
        ),
        *(
            "grafana",
            "inference-sim",
            "isolation",
            "istio",
            "istio-proxy",
            "istiod",
            "jaeger",
            "java",
            "kafka",
            "keycloak",
            "kit",
            "kube-system",
            "log-collector",
            "log-store",
            "logins",
        ),
        *("mesh-policy", "monitoring", "namespace", "nats", "object-store", "objects", "opa", "openbao", "pause"),
        *("platform", "postgres", "prometheus"),
        *("registry", "schema-registry", "schemas", "secret-store", "template0", "template1", "tgi", "vectors", "vllm"),
        *("keycloak-realm", "secret-store-snapshots", "telemetry-gateway", "vector-database"),
    )
)
"""Names of parts, images, logins, databases and accounts of the platform."""
RESERVED_BEGINNINGS = ("gateway-", "kafka-", "kubernetes", "keycloak-", "login-", "model-", "secret-store")
RESERVED_ENDINGS = ("-api-server", "-credentials", "-files", "-keys", "-nodes", "-outlet", "-outside", "-rpc", "-task")
"""What the platform puts before or behind the name of a part."""
RESERVED_PORTS = range(15000, 15100)
"""Of the mesh's proxies. Source: Istio documentation, "Ports used by Istio"."""
RESERVED_VARIABLES = ("KUBERNETES_", "SERVICE_")
"""Beginnings of the variables that Kubernetes and the platform set."""
RESERVED_PATHS = (OPERATORS_PREFIX, "/grafana", "/openapi", "/realms", "/resources", *OPERATORS_DOCUMENTS)
"""Paths at the gateway that belong to operators, to logins and to the gateway itself."""
RESERVED_SUBJECTS = ("in_force", "platform")
"""First words of subjects that the platform uses."""


def conflicts(config: PlatformConfig) -> Iterator[Conflict]:
    """Every mistake in `services.custom` that one section alone does not show."""
    records = config.around.records
    for name, section in sorted(config.services.custom.items()):
        here: Location = ("services", "custom", name)
        yield from _name(here, name)
        if name in SERVICES:
            continue  # its record is the bundled service's
        yield from _image(here, section, config)
        yield from _ports(here, section)
        yield from _prefixes(here, name, section, config)
        yield from _called(here, name, section, records)
        yield from _variables(here, section)
        yield from _claims(here, records[name], records)
        yield from _topics(here, records[name], records)
        yield from _schemas(here, records[name])
        yield from _dead_letters(here, records[name])
        yield from _followed(here, section, records)
    size = sum(len(schema) for record in records.values() for schema in record.schemas.values())
    if size > MOST_BYTES_TOGETHER:
        text = f"schemas of own topics together have at most {MOST_BYTES_TOGETHER} bytes"
        yield Conflict(("services", "custom"), f"{size} bytes", text, "shorten descriptions in kafka.schemas")


def _name(here: Location, name: str) -> Iterator[Conflict]:
    fix = "choose another name"
    if name in SERVICES:
        yield Conflict(here, name, f"not the name of a bundled service: {', '.join(SERVICES)}", fix)
    elif name in RESERVED_NAMES:
        yield Conflict(here, name, "not the name of a part, login or database of the platform", fix)
    elif longer := next((one for one in SERVICES if one.startswith(name)), ""):
        # A service may use all consumer groups of Kafka whose names begin with its own.
        yield Conflict(here, name, f"not the beginning of a bundled service's name, such as {longer}", fix)
    elif name.startswith(RESERVED_BEGINNINGS) or name.endswith(RESERVED_ENDINGS):
        taken = ", ".join((*(f"{word}..." for word in RESERVED_BEGINNINGS), *(f"...{w}" for w in RESERVED_ENDINGS)))
        yield Conflict(here, name, f"none of the platform's own names: {taken}", fix)


def _image(here: Location, section: Service, config: PlatformConfig) -> Iterator[Conflict]:
    built = config.images.source is ImageSource.LOCAL_BUILD
    if section.image and section.build:
        text = "image or build, not both"
        yield Conflict(
            (*here, "build"), section.build, text, "remove one of the two", (f"{format_location(here)}.image",)
        )
    elif section.build and not built:
        text = "with images.source: local-build only; other environments run images by digest"
        fix = "push the image to a registry, and set image to registry/path@sha256:..."
        yield Conflict((*here, "build"), section.build, text, fix, ("images.source",))
    elif not section.image and not section.build:
        text = "the image is required: image (by digest)" + (" or build (a folder)" if built else "")
        fix = "add image: registry/path@sha256:..." + (", or build: <folder>" if built else "")
        yield Conflict((*here, "image"), "(missing)", text, fix, (format_location((*here, "build")),))


def _ports(here: Location, section: Service) -> Iterator[Conflict]:
    for field, port in (("port", section.port), ("rpcPort", section.rpc_port)):
        if port in RESERVED_PORTS:
            text = f"not {RESERVED_PORTS.start} to {RESERVED_PORTS.stop - 1}, which the mesh's proxies use"
            yield Conflict((*here, field), port, text, "choose another port, such as 8080")
    if section.port == section.rpc_port:
        text = "another port than port, where REST is served"
        yield Conflict(
            (*here, "rpcPort"), section.rpc_port, text, "choose another port", (format_location((*here, "port")),)
        )


def _prefixes(here: Location, name: str, section: Service, config: PlatformConfig) -> Iterator[Conflict]:
    records = config.around.records
    if section.prefixes and section.keys is None:
        text = "required with prefixes: directory, asked or none"
        fix = "say who looks at the API keys of callers: set keys: asked, if the service asks User"
        yield Conflict((*here, "keys"), "(missing)", text, fix)
    seen: list[str] = []
    for index, prefix in enumerate(section.prefixes):
        where = (*here, "prefixes", index, "path")
        path = prefix.path
        dots = [segment for segment in path.split("/") if segment in (".", "..")]
        if dots:
            yield Conflict(where, path, 'a path without the segments "." and ".."', "write the path itself")
        elif taken := next((one for one in RESERVED_PATHS if _overlap(path, one)), ""):
            text = f"not {taken} or above it, which belongs to the platform"
            yield Conflict(where, path, text, f'choose another path, such as "/v1/{name}"')
        elif other := _owner(path, name, records):
            text = f"not at, below or above a prefix of another service; {other[0]} has {other[1]}"
            yield Conflict(where, path, text, f'choose another path, such as "/v1/{name}"')
        elif twice := next((one for one in seen if _overlap(path, one)), ""):
            yield Conflict(where, path, f"neither within nor around {twice}, which is there", "remove one of the two")
        seen.append(path)


def _owner(path: str, name: str, records: Mapping[str, ServiceRecord]) -> tuple[str, str] | None:
    """A service that a path would take requests from, or give them to: its name, and its prefix.

    Below the prefix of the service that has what no other one claims, everything but its own paths may be claimed.
    """
    for record in {**SERVICES, **records}.values():
        if record.name == name:
            continue
        for prefix in record.prefixes:
            shared = bool(record.paths) and prefix.path.endswith("/")
            if _below(prefix.path, path) or (not shared and _overlap(path, prefix.path)):
                return record.name, prefix.path
        for own in record.paths:
            if _overlap(path, own):
                return record.name, own
    return None


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or below it."""
    return _below(one, other) or _below(other, one)


def _below(path: str, above: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{above.rstrip('/')}/")


def _called(here: Location, name: str, section: Service, records: Mapping[str, ServiceRecord]) -> Iterator[Conflict]:
    others = sorted(other for other in records if other != name)
    asked = (("asks", section.asks), ("asksRest", section.asks_rest), ("callers", section.callers))
    for field, named in asked:
        for index, other in enumerate(named):
            if other not in others:
                text = f"another service of this environment: {', '.join(others)}"
                fix, needs = _near(other, others), (f"services.{other}", f"services.custom.{other}")
                yield Conflict((*here, field, index), other, text, fix, needs)
    if section.keys and section.keys.value == "asked" and not any(one.keeps_keys for one in records.values()):
        keepers = ", ".join(one.name for one in SERVICES.values() if one.keeps_keys)
        text = f"with services.{keepers} only, which knows the keys"
        fix = f"add services.{keepers}, or set keys: none"
        yield Conflict((*here, "keys"), "asked", text, fix, (f"services.{keepers}",))
    scopes = sorted({scope for record in SERVICES.values() for scope in record.scopes})
    for index, scope in enumerate(section.scopes):
        if scope not in scopes:
            text = f"a scope that keys can have: {', '.join(scopes)}"
            yield Conflict((*here, "scopes", index), scope, text, _near(scope, scopes))


def _near(word: str, words: Iterable[str]) -> str:
    return did_you_mean(word, words, "name one of them, or remove it")


def _variables(here: Location, section: Service) -> Iterator[Conflict]:
    for field, named in (("environment", section.environment), ("secrets", section.secrets)):
        for variable in sorted(named):
            if variable.startswith(RESERVED_VARIABLES):
                text = f"no name that begins with {' or '.join(RESERVED_VARIABLES)}, which the platform sets"
                yield Conflict((*here, field, variable), variable, text, "choose another name")
    for variable in sorted(section.environment.keys() & section.secrets.keys()):
        text = "in environment or in secrets, not in both"
        yield Conflict((*here, "secrets", variable), variable, text, "remove one of the two")


def _claims(here: Location, record: ServiceRecord, records: Mapping[str, ServiceRecord]) -> Iterator[Conflict]:
    """What has one owner."""
    others = [one for one in {**SERVICES, **records}.values() if one.name != record.name]
    written = {topic: one.name for one in others for topic in (*one.produces, *one.outbox)}
    fields: tuple[tuple[str, Location, tuple[str, ...], dict[str, str]], ...] = (
        ("topic", ("kafka", "produces"), record.produces, written),
        ("topic", ("kafka", "outbox"), record.outbox, written),
        ("subject", ("nats", "sends"), record.sends, {s: one.name for one in others for s in one.sends}),
        ("key-value bucket", ("nats", "keeps"), record.keeps, {b: one.name for one in others for b in one.keeps}),
        ("bucket", ("buckets",), record.buckets, {b: one.name for one in others for b in one.buckets}),
        ("secret", ("ownSecrets",), record.own_secrets, {}),
    )
    for kind, field, claimed, owned in fields:
        for index, claim in enumerate(claimed):
            where = (*here, *field, index)
            owner = owned.get(claim, "")
            reserved = kind == "subject" and claim.split(".")[0] in RESERVED_SUBJECTS
            if (owner and claim not in SHARED_TOPICS) or reserved:
                text = f"a {kind} of its own; this one belongs to {owner or 'the platform'}"
                yield Conflict(where, claim, text, "choose another name")
            elif claim in claimed[:index]:
                yield Conflict(where, claim, "each name once", "remove one of the two")


def _topics(here: Location, record: ServiceRecord, records: Mapping[str, ServiceRecord]) -> Iterator[Conflict]:
    known = {topic for one in {**SERVICES, **records}.values() for topic in (*one.produces, *one.outbox)}
    for index, topic in enumerate(record.consumes):
        if topic not in known:
            text = "a topic that a service writes"
            yield Conflict((*here, "kafka", "consumes", index), topic, text, _near(topic, sorted(known)))
    if record.outbox and not record.database:
        text = "with a database, which holds the table events.outbox"
        yield Conflict((*here, "kafka", "outbox"), "(a list)", text, "add database: {}, or use produces")
    if record.erases and TENANT_ERASED not in (*record.outbox, *record.produces):
        text = f"with {TENANT_ERASED} in outbox or produces: a deletion is complete when every reader confirms it"
        fix = f"add {TENANT_ERASED} to outbox, or do not read {TENANT_DELETED}"
        yield Conflict((*here, "kafka", "consumes"), TENANT_DELETED, text, fix)


def _schemas(here: Location, record: ServiceRecord) -> Iterator[Conflict]:
    """A schema belongs to a topic that the service alone writes."""
    written = sorted({*record.produces, *record.outbox} - {*SHARED_TOPICS})
    for topic in record.schemas:
        where = (*here, "kafka", "schemas", topic)
        if topic in SHARED_TOPICS:
            yield Conflict(where, topic, "no schema: the platform has one for this topic", "remove it")
        elif topic not in written:
            text = f"a topic of the service's own produces or outbox: {', '.join(written) or 'there are none'}"
            yield Conflict(where, topic, text, _near(topic, written))


def _dead_letters(here: Location, record: ServiceRecord) -> Iterator[Conflict]:
    """`forge dead-letters` reaches a service that has them through the gateway."""
    path = f"/v1/{record.name}/dead-letters"
    if record.sets_aside and not any(_below(path, prefix.path) for prefix in record.prefixes):
        text = f"with {DEAD_LETTER_HANDLED}: a prefix for {path}, where `forge dead-letters` finds dead letters"
        fix = f'add {{path: "/v1/{record.name}/"}}, or do not write {DEAD_LETTER_HANDLED}'
        yield Conflict((*here, "prefixes"), "(a list)" if record.prefixes else "(missing)", text, fix)


def _followed(here: Location, section: Service, records: Mapping[str, ServiceRecord]) -> Iterator[Conflict]:
    kept = sorted({bucket for one in records.values() for bucket in one.keeps})
    sent = sorted({subject for one in records.values() for subject in one.sends})
    fields = (("follows", section.nats.follows, kept, "keeps"), ("hears", section.nats.hears, sent, "sends"))
    for field, named, known, verb in fields:
        for index, one in enumerate(named):
            if one not in known:
                text = f"one that a service {verb}: {', '.join(known) or 'there are none'}"
                yield Conflict((*here, "nats", field, index), one, text, _near(one, known))
