"""Guardrails: checks requests to models and their answers."""

from __future__ import annotations

from components.config.base import Change, Resources, setting
from components.observability.alert import Alert, Runbook
from components.observability.panel import panel, rate
from components.services.record import Body, Bundled, Objectives, Prefix, ServiceRecord
from components.services.router_panels import CHECKS


class Guardrails(Bundled):
    """Checks requests to models and their answers: personal data, secrets, prompt injection, forbidden topics."""

    resources: Resources = setting(
        Change.SAFE,
        "Resources per replica; half of the memory is for the worker that checks large texts",
        default=Resources(cpu="50m", memory="512Mi"),
    )


RECORD = ServiceRecord(
    "guardrails",
    title="Guardrails",
    about="Checks requests to models and their answers",
    position=3,
    section=Guardrails,
    prefixes=(Prefix("/v1/moderations", Body.TEXT), Prefix("/v1/guard/", Body.TEXT)),
    produces=("guard.decided.v1",),
    follows=("policies", "tenants"),
    asks_for_keys=True,
    scopes=("guardrails",),
    objectives=Objectives(latency_seconds=0.25),
    wheels=True,
    panels=(
        CHECKS,
        panel(
            "Large texts per second",
            "Texts that a worker checked, by how the check ended.",
            "reqps",
            (rate("worker_jobs_total", "outcome", 'job="guardrails"'), "{{outcome}}"),
        ),
    ),
    alerts=(
        Alert(
            "GuardrailsUnavailable",
            'sum(rate(router_guardrails_total{action="unanswered"}[5m])) > 0',
            "5m",
            "page",
            "Guardrails does not answer: requests continue unchecked, or are refused if checks are required.",
            "guardrails",
            Runbook(
                "Guardrails is down or overloaded, or its checks take longer than the route's time limit.",
                (
                    "forge status",
                    "forge logs guardrails",
                    "forge logs router",
                ),
                "Bring it back, or add replicas (`services.guardrails.replicas`). Set `required` on routes whose "
                "requests must not continue unchecked.",
            ),
        ),
    ),
)
