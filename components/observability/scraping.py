"""Configuration of Prometheus and Alertmanager. Pure data."""

from __future__ import annotations

from typing import Any

from components.base import PART_OF
from components.mesh import member_certificate
from components.mesh.sidecar import MEMBER

PORT, ALERTS_PORT = 9090, 9093
INTERVAL_S = 15
_POD = "__meta_kubernetes_pod"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Folder with the token of the pod's account, and the cluster's certificate authority."""


def pods() -> list[dict[str, Any]]:
    """Relabelling of pods that announce metrics by Prometheus' annotations. The job is the name of the part."""
    annotation = f"{_POD}_annotation_prometheus_io"
    return [
        {"action": "keep", "source_labels": [f"{annotation}_scrape"], "regex": "true"},
        {
            "action": "replace",
            "source_labels": [f"{_POD}_ip", f"{annotation}_port"],
            "separator": ":",
            "target_label": "__address__",
        },
        {
            "action": "replace",
            "source_labels": [f"{annotation}_path"],
            "regex": "(.+)",
            "target_label": "__metrics_path__",
        },
        {"action": "replace", "source_labels": [f"{_POD}_label_app_kubernetes_io_name"], "target_label": "job"},
    ]


def _encrypted() -> tuple[dict[str, Any], dict[str, Any]]:
    """Relabelling and TLS for pods with a sidecar, which answers only to a certificate of the mesh.

    The certificate of a pod names its account and no host, so the client cannot compare it with an address. It knows
    the address from the API server.
    """
    ((label, value),) = MEMBER.items()
    name = "".join(one if one.isalnum() else "_" for one in label)
    rule = {
        "action": "replace",
        "source_labels": [f"{_POD}_label_{name}"],
        "regex": value,
        "target_label": "__scheme__",
        "replacement": "https",
    }
    files = {"ca_file": member_certificate.ROOT, "cert_file": member_certificate.CHAIN}
    return rule, {**files, "key_file": member_certificate.KEY, "insecure_skip_verify": True}


def prometheus(namespace: str, *, in_mesh: bool = False) -> dict[str, Any]:
    """Content of prometheus.yml for the pods of a namespace, the kubelets, and Prometheus itself."""
    rule, tls = _encrypted()
    # A pod with several ports is discovered once for each, with equal results.
    found = {"role": "pod", "namespaces": {"names": [namespace]}}
    parts = [
        {"action": "keep", "source_labels": [f"{_POD}_label_app_kubernetes_io_part_of"], "regex": PART_OF},
        *pods(),
        # The operator adds these two by itself.
        {"action": "replace", "source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"action": "replace", "source_labels": [f"{_POD}_name"], "target_label": "pod"},
        *([rule] if in_mesh else []),
    ]
    return {
        "global": {"scrape_interval": f"{INTERVAL_S}s", "evaluation_interval": f"{INTERVAL_S}s"},
        "rule_files": ["/etc/prometheus/rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ALERTS_PORT}"]}]}]},
        "scrape_configs": [
            {
                "job_name": "pods",
                "kubernetes_sd_configs": [found],
                "relabel_configs": parts,
                # A sidecar passes a connection to a port that is in no Service as it is, whatever its own protocol is:
                # the server behind it may not know HTTP/2.
                **({"tls_config": tls, "enable_http2": False} if in_mesh else {}),
            },
            _kubelet("kubelet", "/metrics", "kubelet_volume_stats_.*"),
            _kubelet(
                "kubelet-resources", "/metrics/resource", "container_(cpu_usage_seconds_total|memory_working_set_bytes)"
            ),
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{PORT}"]}]},
            {"job_name": "alertmanager", "static_configs": [{"targets": [f"127.0.0.1:{ALERTS_PORT}"]}]},
        ],
    }


def _kubelet(job: str, path: str, kept: str) -> dict[str, Any]:
    """A scrape of all kubelets. `kept`: regular expression for the names of the metrics that are stored."""
    return {
        "job_name": job,
        "scheme": "https",
        "metrics_path": path,
        "authorization": {"credentials_file": f"{_ACCOUNT}/token"},
        "tls_config": {"ca_file": f"{_ACCOUNT}/ca.crt"},
        "kubernetes_sd_configs": [{"role": "node"}],
        "metric_relabel_configs": [{"action": "keep", "source_labels": ["__name__"], "regex": f"{kept}|up"}],
    }


def alertmanager(webhook: str) -> dict[str, Any]:
    """Content of alertmanager.yml. Pages are sent at once and repeated; tickets are collected. No webhook: kept only.

    A page on a service's objective inhibits the ticket on the same objective.
    """
    receiver: dict[str, Any] = {"name": "all"}
    if webhook:
        receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True, "max_alerts": 100}]
    return {
        "route": {
            "receiver": "all",
            "group_by": ["alertname", "sloth_id"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {"receiver": "all", "matchers": ['severity="page"'], "group_wait": "5s", "repeat_interval": "1h"}
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="page"', 'sloth_id!=""'],
                "target_matchers": ['severity="ticket"'],
                "equal": ["sloth_id"],
            }
        ],
        "receivers": [receiver],
    }
