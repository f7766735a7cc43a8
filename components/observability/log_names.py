"""Names that the store of log lines, its collector and its readers share."""

from __future__ import annotations

STORE, STORE_NAMESPACE = "log-store", "logs"
COLLECTOR, COLLECTOR_NAMESPACE = "log-collector", "log-collector"
IMAGE = "collector"
"""Image of the OpenTelemetry Collector, which the OpenTelemetry gateway runs, too."""
NODE_FOLDER = "/var/log/pods"
"""Where the kubelet keeps the logs of pods: `<namespace>_<pod>_<uid>/<container>/<restarts>.log`."""
PORT = 9428
"""TCP port of the store."""
USER, LOGIN = "logs", "log-store-login"
"""The store's login, and the Secret with its password, and with the value of the header Authorization."""
