"""Bytes of telemetry that each part of an environment produces: log lines, metrics, spans; at rest and by request."""

from __future__ import annotations

import json
import ssl
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from cli import access, cluster, documents, jobs, stack, status
from cli.footprint import Reader
from components.config.platform import PlatformConfig
from components.config.traces import SERVER
from components.observability import scraping
from components.observability.prometheus import NAMESPACE, PART
from local.errors import LocalError

SAMPLE_BYTES = 2
"""Bytes of a stored sample of a metric, at most. Source: Prometheus' documentation on storage (1 to 2 bytes)."""
_CLIENTS = 4
"""Requests at the same time."""
_LOGGED_S, _STORED_S = 3, 15
"""Seconds after which the log lines of a request are written, and its spans are stored."""
_TRACES = 5000
"""Most traces that Jaeger is asked for."""


def collect(name: str, began: datetime, requests: int) -> list[documents.TelemetryVolume]:
    """Measure an environment, which has been at rest since `began`, and then with these requests to its first model.

    Raises LocalError if the cluster or the gateway does not answer, or if a request fails.
    """
    config = stack.read_config(name)
    reader = Reader(config)
    idle = _logs(reader, began)
    idle_s = (_now() - began).total_seconds()
    busy_from = _now()
    _ask(name, requests)
    time.sleep(_STORED_S if config.observability.traces else _LOGGED_S)
    busy = _logs(reader, busy_from)
    busy_s = (_now() - busy_from).total_seconds()
    found = [
        documents.TelemetryVolume(
            part=part,
            signal="logs",
            idle_bytes_per_second=round(idle[part] / idle_s, 1),
            bytes_per_request=max(0, round((busy[part] - idle[part] / idle_s * busy_s) / requests)),
        )
        for part in sorted(idle.keys() | busy.keys())
    ]
    found += [
        documents.TelemetryVolume(
            part=part,
            signal="metrics",
            idle_bytes_per_second=round(samples * SAMPLE_BYTES / scraping.INTERVAL_S, 1),
            bytes_per_request=0,
        )
        for part, samples in sorted(_samples(config).items())
    ]
    found += [
        documents.TelemetryVolume(
            part=part, signal="traces", idle_bytes_per_second=0, bytes_per_request=round(size / requests)
        )
        for part, size in sorted(_spans(config, busy_from).items())
    ]
    return [one for one in found if one.idle_bytes_per_second or one.bytes_per_request]


def _now() -> datetime:
    return datetime.now(UTC)


def _logs(reader: Reader, since: datetime) -> Mapping[str, int]:
    """Bytes of log lines by part since a time. Kubernetes counts in whole seconds."""
    start = (since + timedelta(seconds=0.5)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def size(container: tuple[str, Any, str]) -> tuple[str, int]:
        part, pod, name = container
        path = f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}/log?container={name}&sinceTime={start}"
        with status.answering():
            return part, len(status.text(reader.api, path))

    containers = [
        (status.part_of(pod) or "", pod["metadata"], container["name"])
        for pod in reader.pods()
        for container in pod["spec"]["containers"]
    ]
    total: dict[str, int] = defaultdict(int)
    with ThreadPoolExecutor(4) as pool:
        for part, length in pool.map(size, containers):
            total[part] += length
    return total


def _ask(name: str, requests: int) -> None:
    """Send chat requests, and read the answers."""
    found = access.of(name)
    messages = [{"role": "user", "content": "Name three rivers, and the seas that they flow into."}]
    question = {"model": found.model, "messages": messages, "max_tokens": 32}
    headers = {"authorization": f"Bearer {found.key}"}
    context = ssl.create_default_context(cafile=str(found.authority_file))
    with (
        httpx.Client(base_url=found.url, verify=context, headers=headers, timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(_CLIENTS) as pool,
    ):
        try:
            answers = list(pool.map(lambda _: client.post("/chat/completions", json=question), range(requests)))
        except httpx.HTTPError as error:
            raise LocalError("the gateway does not answer", reason=str(error), fix="see `forge status`") from None
    failed = [answer for answer in answers if answer.status_code != 200]
    if failed:
        raise LocalError(
            f"{len(failed)} of {requests} requests failed; nothing was measured",
            reason=f"HTTP {failed[0].status_code}: {failed[0].text[:300]}",
            fix="see `forge logs router`",
        )


def _samples(config: PlatformConfig) -> dict[str, int]:
    """Samples of a scrape by part; empty without a Prometheus of the platform's."""
    if config.observability.prometheus is None:
        return {}
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    path = "/api/v1/query?query=sum%20by%20(job)(scrape_samples_post_metric_relabeling)"
    answer = json.loads(jobs.ask(command, "metrics", NAMESPACE, f"{PART}:http", path))
    return {one["metric"].get("job", ""): int(float(one["value"][1])) for one in answer["data"]["result"]}


def _spans(config: PlatformConfig, since: datetime) -> dict[str, int]:
    """Bytes of the stored spans since a time, as Jaeger's JSON, by part; empty without a Jaeger of the platform's."""
    if config.observability.traces is None:
        return {}
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)

    def ask(path: str) -> Any:
        return json.loads(jobs.ask(command, "spans", config.cluster.namespace, f"{SERVER}:query", path))["data"]

    begin, end = (round(moment.timestamp() * 1e6) for moment in (since, _now()))
    traces: dict[str, Any] = {}
    for service in ask("/api/services") or []:
        found = ask(f"/api/traces?service={service}&start={begin}&end={end}&limit={_TRACES}")
        traces |= {trace["traceID"]: trace for trace in found or []}
    return by_service(traces.values())


def by_service(traces: Iterable[Any]) -> dict[str, int]:
    """Bytes of the spans of traces, as JSON without spaces, by service."""
    total: dict[str, int] = defaultdict(int)
    for trace in traces:
        names = {key: process["serviceName"] for key, process in trace["processes"].items()}
        for span in trace["spans"]:
            total[names[span["processID"]]] += len(json.dumps(span, separators=(",", ":")))
    return dict(total)
