"""Dashboards of services, each derived from the service's record."""

from __future__ import annotations

from collections.abc import Iterator

from components.observability import alerts
from components.observability.panel import Board, Panel, budgets, panel, quantile, rate, usage
from components.services.record import ServiceRecord

FOLDER = "CogniForge: services"


def board(record: ServiceRecord) -> Board:
    """The board of a service. It has the panels of all that the record says, and then those that it brings."""
    panels = (*_requests(record), *_objectives(record), *_dependencies(record), *record.panels)
    pods = f"{record.name}-[0-9a-f]+-[0-9a-z]+"
    return Board(record.name, record.title, record.about, FOLDER, (*panels, *usage(pods)), record.name)


def _requests(record: ServiceRecord) -> Iterator[Panel]:
    job = f'job="{record.name}"'
    yield panel(
        "Requests per second, by status",
        "Requests to the REST API. 5xx are the service's own failures.",
        "reqps",
        (rate("http_server_requests_total", "status", job), "{{status}}"),
    )
    yield panel(
        "Latency",
        "Time of the median request, and of the slowest twentieth and hundredth.",
        "s",
        *(
            (quantile(share, "http_server_request_duration_seconds", "", job), f"{share:.0%}")
            for share in (0.5, 0.95, 0.99)
        ),
    )
    if not record.custom:
        yield panel(
            "Requests in flight",
            "Requests that are being answered, by replica. A number that only grows means that something hangs.",
            "short",
            (f"sum by (pod) (http_server_requests_in_flight{{{job}}})", "{{pod}}"),
        )


def _objectives(record: ServiceRecord) -> Iterator[Panel]:
    promised = ", ".join(f"{one.name} {one.objective:.4g}" for one in alerts.indicators(record))
    yield from budgets(f'sloth_service="{record.name}"', "{{sloth_slo}}", f"Objectives: {promised}.")


def _dependencies(record: ServiceRecord) -> Iterator[Panel]:
    """What the service waits for, by the metrics of the kit. A user's own service may not use the kit."""
    if record.custom:
        return
    job = f'job="{record.name}"'
    if record.database:
        yield panel(
            "Time until issued logins end",
            "The service renews its logins for PostgreSQL and the cache in time. A line that reaches 0 means that the "
            "secret store is away. Without issued logins, there is no line.",
            "s",
            (
                f"min by (pod, system) ((issued_login_expires_timestamp_seconds{{{job}}} > 0) - time())",
                "{{pod}}, {{system}}",
            ),
        )
    if record.consumes:
        yield panel(
            "Events that are being retried",
            "For how long the service has been retrying the same events. Usually its database is away.",
            "s",
            (f"max by (pod) (events_stuck_seconds{{{job}}})", "{{pod}}"),
        )
    if record.sets_aside:
        yield panel(
            "Dead letters",
            "Events that could not be processed, by topic. `forge dead-letters list` shows them.",
            "short",
            (f"max by (topic) (dead_letters_waiting{{{job}}})", "{{topic}}"),
        )
    if record.produces:
        yield panel(
            "Events that wait on disk",
            "Bytes that wait for Kafka on each replica's disk, and the limit. Beyond the limit, events are lost.",
            "bytes",
            (f"max by (pod) (events_spilled_bytes{{{job}}})", "{{pod}}"),
            (f"max(events_spill_limit_bytes{{{job}}})", "limit"),
        )
        yield panel(
            "Lost events per second",
            "Events that could not be sent to Kafka and are lost.",
            "ops",
            (rate("events_lost_total", "topic", job), "{{topic}}"),
        )
    if record.follows:
        yield panel(
            "Time without changes of configuration",
            "For how long a replica could not receive changes of a bucket, because NATS is away. 0 is usual.",
            "s",
            (f"max by (pod, bucket) (bucket_away_seconds{{{job}}})", "{{pod}} {{bucket}}"),
        )
    if record.keeps:
        yield panel(
            "Replicas that lag",
            "Replicas of other services that have not applied a change, or have rejected it.",
            "short",
            (f"max by (bucket, why) (followers_lagging{{{job}}})", "{{bucket}} {{why}}"),
        )
