"""Alerts and dashboard panels of the secret store, based on metrics of its keeper and of OpenBao. Pure data."""

from __future__ import annotations

from components.observability.alert import Alert, Panel

PART = "secret-store"
ALERTS: tuple[Alert, ...] = (
    Alert(
        "SecretStoreSealed",
        "max by (pod) (secret_store_sealed) > 0",
        "0m",
        "page",
        "{{ $labels.pod }} is sealed and serves no requests. Unless an operator has sealed it (`sys/seal` in the "
        "audit log), its log says why the unseal key is unavailable. Deleting the pod unseals it.",
        PART,
    ),
    Alert(
        "SecretStoreDown",
        "absent(secret_store_active > 0)",
        "1m",
        "page",
        "No server of the secret store is active: all are down, sealed, or without a quorum. Services continue with "
        "their current secrets; starting pods wait for the store.",
        PART,
    ),
    Alert(
        "SecretStoreNotConfigured",
        "max(secret_store_configured) < 1",
        "2m",
        "page",
        "The secret store's content differs from the declaration: services may lack rights. The log of the container "
        "`keeper` lists the differences.",
        PART,
    ),
    Alert(
        "SecretStoreTampered",
        'sum(increase(secret_store_settled_total{kind="remove"}[10m])) > 0',
        "0m",
        "page",
        "Undeclared rights were removed from the secret store. This is expected after `forge up` has disabled a "
        "service. Otherwise, find the request that created them in the store's audit log.",
        PART,
    ),
    Alert(
        "SecretStoreAuditFailing",
        "increase(vault_audit_log_request_failure[10m]) > 0",
        "0m",
        "page",
        "The secret store cannot write its audit log and refuses requests: check the node's disk and the pod's log.",
        PART,
    ),
    Alert(
        "SecretStoreSnapshotMissing",
        "time() - max(kube_cronjob_status_last_successful_time"
        '{namespace="$namespace",cronjob="secret-store-snapshots"}) > 90000',
        "5m",
        "ticket",
        "The last snapshot of the secret store is older than 25 hours: see the log of the newest Job "
        "`secret-store-snapshots-*`. `forge secret-store snapshot` saves one now.",
        "secret-store-snapshots",
    ),
)
PANELS: tuple[Panel, ...] = (
    Panel(
        "Secret store: requests per second",
        "sum(rate(vault_core_handle_request_count[$__rate_interval]))",
        "reqps",
        PART,
    ),
    Panel("Secret store: leases", "max(vault_expire_num_leases)", "short", PART),
    Panel("Secret store: settled differences", "sum by (kind) (secret_store_settled_total)", "short", PART),
)
