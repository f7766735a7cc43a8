"""Panels of the Router's metrics. Pure data."""

from __future__ import annotations

from components.observability.panel import panel, quantile, rate

REQUESTS = panel(
    "Requests for models per second, by status",
    "Answers of the Router. 5xx count against its objective.",
    "reqps",
    (rate("router_requests_total", "status"), "{{status}}"),
)
CHECKS = panel(
    "Checks by Guardrails per second",
    "By direction and by what came out. `unanswered` and `unchecked` mean that Guardrails did not answer in time.",
    "reqps",
    (rate("router_guardrails_total", "direction, action"), "{{direction}} {{action}}"),
)
PANELS = (
    REQUESTS,
    panel(
        "Requests for models per second, by model",
        "By the name that clients use.",
        "reqps",
        (rate("router_requests_total", "model"), "{{model}}"),
    ),
    panel(
        "Time to the first token",
        "From the last byte of the request to the first piece of a stream: median and slowest hundredth.",
        "s",
        (
            quantile(0.5, "gen_ai_server_time_to_first_token_seconds", "gen_ai_request_model"),
            "{{gen_ai_request_model}} 50%",
        ),
        (
            quantile(0.99, "gen_ai_server_time_to_first_token_seconds", "gen_ai_request_model"),
            "{{gen_ai_request_model}} 99%",
        ),
    ),
    panel(
        "Duration of answers",
        "From the last byte of the request to the last byte of the answer: slowest twentieth.",
        "s",
        (quantile(0.95, "gen_ai_server_request_duration_seconds", "gen_ai_request_model"), "{{gen_ai_request_model}}"),
    ),
    panel(
        "Failed attempts per second, by target",
        "Attempts that failed. The Router tries other targets, so clients may not have noticed.",
        "reqps",
        (rate("router_upstream_requests_total", "target", 'outcome="failed"'), "{{target}}"),
    ),
    panel(
        "Ends of streams per second",
        "`cut`: the stream broke off. `left`: the client closed it.",
        "reqps",
        (rate("router_streams_total", "end"), "{{end}}"),
    ),
    CHECKS,
    panel(
        "Look-ups of the cache per second",
        "Whether the cache had an answer, and what kept it from having one.",
        "reqps",
        (rate("router_cache_requests_total", "result"), "{{result}}"),
    ),
    panel(
        "Time without revocations of keys",
        "For how long NATS has been away. Meanwhile, revoked keys stay valid for up to five minutes.",
        "s",
        ("max by (pod) (router_keys_away_seconds)", "{{pod}}"),
    ),
)
