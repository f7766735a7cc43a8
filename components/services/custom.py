"""The record of a user's own service, from its section of the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping

from components.config.custom import Keys, SecretsIn, Service
from components.config.topic_schema import text
from components.observability.alert import Alert, Runbook
from components.observability.objective import camel
from components.services.record import KEYS_BUCKET, Objectives, Prefix, ServiceRecord, Surroundings


def record(name: str, section: Service, keeper: str) -> ServiceRecord:
    """What the platform derives from; `keeper` is the service that keeps API keys, empty where there is none."""
    directory, asked = section.keys is Keys.DIRECTORY, section.keys is Keys.ASKED
    objectives = Objectives(**section.objectives.model_dump())
    title = section.title or name.replace("-", " ").capitalize()
    return ServiceRecord(
        name,
        title=title,
        about=section.about or title,
        custom=True,
        reference=section.image or "",
        built_from=section.build or "",
        section=Service,
        port=section.port,
        rpc_port=section.rpc_port,
        ready_path=section.ready_path,
        live_path=section.live_path,
        metrics=section.metrics,
        document=section.document or "",
        prefixes=tuple(Prefix(one.path, one.body, one.encoded_names) for one in section.prefixes),
        asks=section.asks,
        asks_rest=_once((*section.asks_rest, *([keeper] if asked and keeper else []))),
        callers=section.callers,
        database=section.database is not None,
        extensions=section.database.extensions if section.database else (),
        migrates=section.database.migrate if section.database else (),
        produces=section.kafka.produces,
        outbox=section.kafka.outbox,
        consumes=section.kafka.consumes,
        schemas={topic: text(schema) for topic, schema in sorted(section.kafka.schemas.items())},
        sends=section.nats.sends,
        hears=section.nats.hears,
        keeps=section.nats.keeps,
        follows=_once((*section.nats.follows, *([KEYS_BUCKET] if directory and keeper else []))),
        cache=section.cache,
        buckets=section.buckets,
        own_secrets=section.own_secrets,
        asks_for_keys=directory,
        scopes=section.scopes,
        objectives=objectives,
        egress=section.egress,
        scratch_mib=section.scratch_mib,
        alerts=_alerts(name, title, objectives, section.metrics),
        variables=_variables,
        secrets=_secrets,
        secrets_in_environment=section.secrets_in is SecretsIn.ENVIRONMENT,
        needs=_needs(section),
    )


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _needs(section: Service) -> Mapping[str, str]:
    """Parts of the data layer that the section asks for; databases and buckets are in the record itself."""
    topics, subjects = section.kafka, section.nats
    asked = {
        "data.kafka": (topics.produces or topics.consumes or topics.outbox, "writes or reads topics"),
        "data.schemaRegistry": (topics.schemas, "registers schemas of topics"),
        "data.changeDataCapture": (topics.outbox, "has an outbox"),
        "data.nats": (subjects.sends or subjects.hears or subjects.keeps or subjects.follows, "uses NATS"),
        "data.cache": (section.cache, "keeps values in the cache"),
    }
    return {path: why for path, (wanted, why) in asked.items() if wanted}


def _variables(section: Service, around: Surroundings) -> Mapping[str, str]:
    scopes = {"SERVICE_SCOPES": json.dumps(section.scopes)} if section.scopes else {}
    return {**section.environment, **scopes}


def _secrets(section: Service, around: Surroundings) -> Mapping[str, tuple[str, str]]:
    return {variable: (one.secret, one.entry) for variable, one in section.secrets.items()}


def _alerts(name: str, title: str, aim: Objectives, metrics: bool) -> tuple[Alert, ...]:
    """That none of its replicas is ready and, by the metrics that bundled services show too, that it misses its
    objectives."""
    word, checks = camel(name), ("forge status", f"forge logs {name}")
    down = Alert(
        f"{word}Unavailable",
        f'kube_deployment_status_replicas_available{{namespace="$namespace",deployment="{name}"}} < 1',
        "5m",
        "page",
        f"No replica of {title} is ready.",
        name,
        Runbook(
            "Its image does not start, its database or another server that it waits for is away, or its probe fails.",
            (*checks, f"kubectl --namespace $namespace describe deployment {name}"),
            "The log of its pod says why. `forge up` with the image before goes back.",
        ),
    )
    if not metrics:
        return (down,)
    slow = (
        f"histogram_quantile({aim.latency_share:g}, sum by (le) "
        f'(rate(http_server_request_duration_seconds_bucket{{job="{name}"}}[10m]))) > {aim.latency_seconds:g}'
    )
    return (
        down,
        Alert(
            f"{word}LatencyHigh",
            slow,
            "10m",
            "ticket",
            f"{title} answers fewer than {aim.latency_share:.4g} of its requests within {aim.latency_seconds:g} s.",
            name,
            Runbook(
                "Its replicas lack CPU, or a server that it asks is slow.",
                checks,
                "Add replicas, or repair the server that it asks.",
            ),
        ),
    )
