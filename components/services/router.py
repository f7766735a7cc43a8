"""The AI Router: one API in front of every model."""

from __future__ import annotations

import json

from components.config.base import Change, Resources, setting
from components.mesh.routes import OPERATORS_PREFIX
from components.observability.objective import Indicator, latency
from components.services.record import Body, Bundled, Objectives, Prefix, ServiceRecord, Surroundings
from components.services.router_panels import PANELS

SPILL_MIB = 1024
"""Size of the disk buffer for usage events while Kafka is unavailable. It holds a million requests, of 0.9 KB each."""


class Router(Bundled):
    """The AI Router, one API for all models."""

    resources: Resources = setting(Change.SAFE, "Resources per replica", default=Resources(cpu="100m", memory="256Mi"))


def _variables(section: Router, around: Surroundings) -> dict[str, str]:
    asked = any(RECORD.name in other.asks for other in around.records.values())
    documents = sorted(name for name, record in around.records.items() if record.prefixes and record.document)
    return {
        "SERVICE_DOCUMENTS": json.dumps(documents),
        "SERVICE_SPILL_BYTES": str(SPILL_MIB * 2**20),
        **({"SERVICE_CALLS": "true"} if asked else {}),
    }


OBJECTIVES = Objectives(latency_seconds=None, first_token_seconds=2.0)
_REQUESTS, _STREAMS, _CHECKS = "router_requests_total", "router_streams_total", "router_guardrails_total"
_INDICATORS = (
    Indicator(
        "availability",
        OBJECTIVES.availability,
        f'sum(rate({_REQUESTS}{{status=~"5.."}}[$window]))',
        f"sum(rate({_REQUESTS}[$window]))",
        "requests for models fail",
    ),
    latency(
        "gen_ai_server_time_to_first_token_seconds",
        "",
        2.0,
        OBJECTIVES.latency_share,
        name="first-token",
        slow="streams begin too late",
    ),
    Indicator(
        "streams",
        OBJECTIVES.availability,
        f'sum(rate({_STREAMS}{{end="cut"}}[$window]))',
        f"sum(rate({_STREAMS}[$window]))",
        "streams break off, and no other target continues them",
    ),
    Indicator(
        "guard-checks",
        OBJECTIVES.availability,
        f'sum(rate({_CHECKS}{{action=~"unanswered|unchecked"}}[$window]))',
        f"sum(rate({_CHECKS}[$window]))",
        "Guardrails does not answer checks in time, so requests are refused or continue unchecked",
    ),
)
RECORD = ServiceRecord(
    "router",
    title="AI Router",
    about="One API for all models",
    position=0,
    section=Router,
    always=True,
    # All paths that no other service has, and the prefixes whose names may contain slashes.
    prefixes=(
        Prefix("/v1/", Body.LARGE),
        Prefix("/v1/models", encoded_names=True),
        Prefix(OPERATORS_PREFIX),
        Prefix(f"{OPERATORS_PREFIX}/routes", encoded_names=True),
    ),
    paths=(
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/feedback",
        "/v1/messages",
        "/v1/responses",
    ),
    asks=("user", "prompt", "guardrails", "embeddings"),
    asks_rest=("embeddings",),
    receives_urls=False,  # its table of routes has them
    produces=("usage.recorded.v1", "route.changed.v1"),
    sends=("router.used", "in_force.router.router"),
    hears=("router.used",),
    keeps=("router",),
    follows=("tenants", "budgets", "labels"),
    scopes=("inference", "embeddings"),
    objectives=OBJECTIVES,
    indicators=_INDICATORS,
    panels=PANELS,
    documents=True,
    scratch_mib=SPILL_MIB + 64,
    variables=_variables,
)
