"""Alerts of the mesh that the platform runs itself, by istiod's metrics. Pure data."""

from __future__ import annotations

from components.mesh.sidecar import PART
from components.observability.alert import Alert, Runbook

_CHECKS = ("forge status", f"forge logs {PART}")
NOTICE_DAYS = 30
"""Days before the end of the authority at which the alert is raised."""
ALERTS: tuple[Alert, ...] = (
    Alert(
        "MeshAuthorityExpires",
        f"min(citadel_server_root_cert_expiry_timestamp) - time() < {NOTICE_DAYS} * 86400",
        "0m",
        "page",
        f"The authority of the mesh ends in less than {NOTICE_DAYS} days. After that, sidecars refuse all requests.",
        PART,
        Runbook(
            "The authority is nearly ten years old.",
            _CHECKS,
            "Replace it in three updates, as docs/how-to/mesh.md describes.",
        ),
    ),
    Alert(
        "MeshCertificatesNotIssued",
        "sum(increase(citadel_server_csr_sign_err_count[10m])) > 0 "
        "or sum(increase(citadel_server_authentication_failure_count[10m])) > 0",
        "5m",
        "page",
        "istiod refuses to sign certificates. Running pods keep theirs until it ends; new pods do not start.",
        PART,
        Runbook(
            "A pod shows a token that istiod does not accept, or the authority is unusable.",
            (*_CHECKS, "kubectl --namespace $namespace get pods"),
            "The log of istiod names the pod and the reason. `forge up` restores an authority that was changed by "
            "hand.",
        ),
    ),
)
