"""Alerts and dashboard panels of the secret store, by metrics of its keeper and of OpenBao, and of OPA. Pure data."""

from __future__ import annotations

from components.observability.alert import Alert, Panel

PART, OPA = "secret-store", "opa"
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
    Alert(
        "PolicyUndecided",
        'sum(increase(envoy_http_ext_authz_error{envoy_http_conn_manager_prefix="gateway"}[5m])) > 0',
        "1m",
        "page",
        "The gateway gets no decisions from OPA: OPA is down, needs longer than 50 ms, or has not received the "
        "directory of keys. Callers get 503 with the code policy_undecided for operators' operations, and for all "
        "others unless security.opa.closed is false. If OPA's own duration of decisions is short, its pods lack CPU.",
        OPA,
    ),
    Alert(
        "PolicyBundleRefused",
        "increase(bundle_failed_load_counter[10m]) > 0",
        "0m",
        "page",
        "A replica of OPA has refused a bundle: its signature or its content is wrong. The last good bundle stays in "
        "force; the replica's log says what is wrong.",
        OPA,
    ),
    Alert(
        "PolicySkew",
        "count(count by (active_revision) (last_success_bundle_activation)) > 1",
        "2m",
        "ticket",
        "Replicas of OPA have different bundles in force: `kubectl rollout status deployment/opa` says what hangs.",
        OPA,
    ),
    Alert(
        "PolicyDirectoryAway",
        "max(opa_directory_away) > 0",
        "2m",
        "page",
        "OPA does not receive changes of API keys: revoked keys stay valid for it, and new keys are unknown.",
        OPA,
    ),
    Alert(
        "PolicyLogIncomplete",
        "increase(opa_decision_log_dropped_total[10m]) > 0",
        "0m",
        "ticket",
        "OPA's log lacks decisions, because they were made faster than the log was written. Add replicas.",
        OPA,
    ),
    Alert(
        "PolicyGlassBroken",
        "increase(opa_break_glass_total[10m]) > 0",
        "0m",
        "page",
        "An operator has used x-break-glass to get past a rule. The log of decisions has the reason and the key's ID.",
        OPA,
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
    Panel(
        "Policy: decisions per second",
        "sum by (outcome, rule) (rate(opa_decision_seconds_count[$__rate_interval]))",
        "reqps",
        OPA,
    ),
    Panel(
        "Policy: 99th percentile of a decision in OPA",
        "histogram_quantile(0.99, sum by (le) (rate(opa_decision_seconds_bucket[$__rate_interval])))",
        "s",
        OPA,
    ),
    Panel(
        "Policy: requests at the gateway without a decision per second",
        'sum(rate(envoy_http_ext_authz_error{envoy_http_conn_manager_prefix="gateway"}[$__rate_interval]))',
        "reqps",
        OPA,
    ),
)
