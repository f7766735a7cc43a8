"""Alerts of the secret store, by metrics of its keeper and of OpenBao, and of OPA. Pure data."""

from __future__ import annotations

from components.observability.alert import Alert, Runbook

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
        Runbook(
            "An operator has sealed it, or the unseal key was not readable when it started.",
            (
                "forge status",
                "forge logs secret-store",
            ),
            "Delete the pod, which unseals itself at its start. If the key is lost, its log says what to restore.",
        ),
    ),
    Alert(
        "SecretStoreDown",
        "absent(secret_store_active > 0)",
        "1m",
        "page",
        "No server of the secret store is active: all are down, sealed, or without a quorum. Services continue with "
        "their current secrets; starting pods wait for the store.",
        PART,
        Runbook(
            "All servers are down or sealed, or too few of them run for a quorum.",
            (
                "forge status",
                "forge logs secret-store",
                "kubectl --namespace $namespace get pods --selector app.kubernetes.io/name=secret-store",
            ),
            "Bring its pods back. If the storage is lost, `forge secret-store restore` brings back the last snapshot.",
        ),
    ),
    Alert(
        "SecretStoreNotConfigured",
        "max(secret_store_configured) < 1",
        "2m",
        "page",
        "The secret store's content differs from the declaration: services may lack rights. The log of the container "
        "`keeper` lists the differences.",
        PART,
        Runbook(
            "The keeper lacks rights, or somebody changes the content again and again.",
            ("forge logs secret-store",),
            "The log of the container `keeper` lists the differences and why each one stays.",
        ),
    ),
    Alert(
        "SecretStoreTampered",
        'sum(increase(secret_store_settled_total{kind="remove"}[10m])) > 0',
        "0m",
        "page",
        "Undeclared rights were removed from the secret store. This is expected after `forge up` has disabled a "
        "service. Otherwise, find the request that created them in the store's audit log.",
        PART,
        Runbook(
            "A service was disabled, or somebody has created policies or roles by hand.",
            ("forge logs secret-store",),
            "If `forge up` has disabled a service, nothing is to be done. Otherwise, find the request in the audit "
            "log, and rotate what the account could read with `forge rotate`.",
        ),
    ),
    Alert(
        "SecretStoreAuditFailing",
        "increase(vault_audit_log_request_failure[10m]) > 0",
        "0m",
        "page",
        "The secret store cannot write its audit log and refuses requests: check the node's disk and the pod's log.",
        PART,
        Runbook(
            "The node's disk is full, so that the container's log cannot be written.",
            (
                "forge logs secret-store",
                "kubectl describe nodes",
            ),
            "Free space on the node.",
        ),
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
        Runbook(
            "The object store refuses the snapshot, or the store was away at its time.",
            (
                "kubectl --namespace $namespace get jobs",
                "forge logs secret-store",
            ),
            "Remove the cause, then run `forge secret-store snapshot`.",
        ),
    ),
    Alert(
        "PolicyUndecided",
        'sum(increase(envoy_http_ext_authz_error{envoy_http_conn_manager_prefix="gateway"}[5m])) > 0',
        "1m",
        "page",
        "The gateway gets no decisions from OPA: OPA is down, is too slow, or has not received the "
        "directory of keys. Callers get 503 with the code policy_undecided for operators' operations, and for all "
        "others unless security.opa.closed is false. If OPA's own duration of decisions is short, its pods lack CPU.",
        OPA,
        Runbook(
            "OPA is down, lacks CPU, or has not received the directory of keys from NATS.",
            (
                "forge status",
                "forge logs opa",
                "forge logs nats",
            ),
            "Bring OPA back, or add replicas (`security.opa.replicas`).",
        ),
    ),
    Alert(
        "PolicyBundleRefused",
        "increase(bundle_failed_load_counter[10m]) > 0",
        "0m",
        "page",
        "A replica of OPA has refused a bundle: its signature or its content is wrong. The last good bundle stays in "
        "force; the replica's log says what is wrong.",
        OPA,
        Runbook(
            "The bundle was changed on its way, or signed with another key.",
            ("forge logs opa",),
            "Run `forge up`, which makes and signs the bundle again. If the signature is refused then, find out "
            "who has written it.",
        ),
    ),
    Alert(
        "PolicySkew",
        "count(count by (active_revision) (last_success_bundle_activation)) > 1",
        "2m",
        "ticket",
        "Replicas of OPA have different bundles in force: `kubectl rollout status deployment/opa` says what hangs.",
        OPA,
        Runbook(
            "A replica cannot read the new bundle, or hangs.",
            (
                "kubectl --namespace $namespace get pods --selector app.kubernetes.io/name=opa",
                "forge logs opa",
            ),
            "Delete the pod with the older bundle.",
        ),
    ),
    Alert(
        "PolicyDirectoryAway",
        "max(opa_directory_away) > 0",
        "2m",
        "page",
        "OPA does not receive changes of API keys: revoked keys stay valid for it, and new keys are unknown.",
        OPA,
        Runbook(
            "NATS is down, or a network policy blocks OPA from it.",
            (
                "forge status",
                "forge logs nats",
                "forge logs opa",
            ),
            "Bring NATS back. The Router still refuses revoked keys.",
        ),
    ),
    Alert(
        "PolicyLogIncomplete",
        "increase(opa_decision_log_dropped_total[10m]) > 0",
        "0m",
        "ticket",
        "OPA's log lacks decisions, because they were made faster than the log was written. Add replicas.",
        OPA,
        Runbook(
            "More decisions are made than one replica writes.",
            ("forge logs opa",),
            "Add replicas (`security.opa.replicas`).",
        ),
    ),
    Alert(
        "PolicyEventsDropped",
        "increase(opa_decision_events_dropped_total[10m]) > 0",
        "0m",
        "ticket",
        "Audit lacks decisions of OPA, because Kafka refused them or was away for too long. OPA's log has them.",
        OPA,
        Runbook(
            "Kafka is down, refuses OPA's login, or lacks the topic.",
            ("forge status", "forge logs kafka", "forge logs opa"),
            "Bring Kafka back. OPA keeps 10,000 decisions in memory meanwhile.",
        ),
    ),
    Alert(
        "PolicyGlassBroken",
        "increase(opa_break_glass_total[10m]) > 0",
        "0m",
        "page",
        "An operator has used x-break-glass to get past a rule. The log of decisions has the reason and the key's ID.",
        OPA,
        Runbook(
            "Somebody with an operator's key has used the header.",
            ("forge logs opa",),
            "Ask the key's owner. If nobody knows of it, revoke the key with `forge key revoke`.",
        ),
    ),
)
