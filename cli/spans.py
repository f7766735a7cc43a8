"""Spans of a trace from the environment's Jaeger, which is asked through the cluster's API server."""

from __future__ import annotations

import json
from typing import Any

from cli import audit_log, cluster, jobs
from cli.explained import Explanation, RecordedSpan
from components.config.platform import PlatformConfig
from components.config.traces import SERVER
from local.errors import LocalError

MOST = 200
"""Most spans of a trace that are shown."""
Json = dict[str, Any]


def add(found: Explanation, config: PlatformConfig) -> None:
    """Add the spans of each request, or why they could not be read. Nothing changes without Jaeger."""
    traces = config.observability.traces
    if traces is None:
        return
    for one in found.requests:
        if not one.trace:
            continue
        try:
            one.spans = read(_ask(config, one.trace))
        except LocalError as error:
            found.gaps.append(f"spans: {error.problem}: {error.reason}")
            return
        if not one.spans:
            sampled = f"not kept by sampling, which keeps one of {traces.keep_one_of} ordinary requests; or "
            why = f"{sampled if traces.keep_one_of > 1 else ''}not arrived yet, or expired"
            found.gaps.append(f"spans: the trace {one.trace} has none: {why}")
        if len(one.spans) > MOST:
            found.gaps.append(f"spans: {len(one.spans) - MOST} of the trace {one.trace} are left out")
            one.spans = one.spans[:MOST]


def _ask(config: PlatformConfig, trace: str) -> Json:
    """Jaeger's answer about a trace; empty if it has none."""
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    try:
        return json.loads(
            jobs.ask(command, "spans", config.cluster.namespace, f"{SERVER}:query", f"/api/traces/{trace}")
        )
    except LocalError as error:
        if "trace not found" in f"{error.problem} {error.reason}" or "NotFound" in error.reason:
            return {"data": []}
        raise
    except ValueError:
        raise LocalError("Jaeger's answer is not JSON") from None


def read(answer: Json) -> list[RecordedSpan]:
    """The spans of Jaeger's answer, in the order of their beginning. Raises LocalError for another form."""
    try:
        return [RecordedSpan.model_validate(span) for span in audit_log.spans().read(answer)]
    except ValueError as error:
        raise LocalError(str(error)) from None
