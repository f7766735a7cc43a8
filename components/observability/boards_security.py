"""Dashboards of the secret store and of OPA, by metrics of the store's keeper, of OpenBao, of OPA and of Envoy."""

from __future__ import annotations

from components.observability.alerts_security import OPA, PART
from components.observability.panel import Board, panel, quantile, rate, usage, volumes

FOLDER = "CogniForge: security"
SECRET_STORE = Board(
    PART,
    "Secret store",
    "Whether the store is open, answers, and has the declared content.",
    FOLDER,
    (
        panel(
            "Requests per second",
            "Requests to all servers of the store.",
            "reqps",
            (rate("vault_core_handle_request_count"), "requests"),
        ),
        panel(
            "Sealed servers",
            "1 for a server that is sealed and serves no requests.",
            "short",
            ("max by (pod) (secret_store_sealed)", "{{pod}}"),
        ),
        panel(
            "Leases",
            "Logins that the store has issued and will end.",
            "short",
            ("max(vault_expire_num_leases)", "leases"),
        ),
        panel(
            "Settled differences per second",
            "Content that was not as declared, and was put right. More after an update only.",
            "ops",
            (rate("secret_store_settled_total", "kind"), "{{kind}}"),
        ),
        *usage(f"{PART}-[0-9]+"),
        volumes(f"data-{PART}-[0-9]+"),
    ),
    PART,
)
POLICY = Board(
    OPA,
    "Policy decisions",
    "Whether OPA decides about requests, and how fast.",
    FOLDER,
    (
        panel(
            "Decisions per second",
            "By outcome, and by the rule that decided.",
            "reqps",
            (rate("opa_decision_seconds_count", "outcome, rule"), "{{outcome}} {{rule}}"),
        ),
        panel(
            "99th percentile of a decision",
            "Time inside OPA. The gateway waits for it in each request.",
            "s",
            (quantile(0.99, "opa_decision_seconds"), "all decisions"),
        ),
        panel(
            "Requests without a decision per second",
            "The gateway did not get an answer from OPA.",
            "reqps",
            (
                rate("envoy_http_ext_authz_error", labels='envoy_http_conn_manager_prefix="gateway"'),
                "no decision",
            ),
        ),
        *usage(f"{OPA}-.+"),
    ),
    OPA,
)
BOARDS = (SECRET_STORE, POLICY)
