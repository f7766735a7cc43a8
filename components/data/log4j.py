"""Logging of Kafka's programs: warnings, and the messages that operators need first, to the console."""

from __future__ import annotations

import json
from typing import Any

_CONNECT_WORKER = "org.apache.kafka.connect.runtime.Worker"
_LEVELS = {
    "kafka.server.KafkaRaftServer": "info",
    "org.apache.kafka.connect.runtime.distributed.DistributedHerder": "info",
    "io.debezium.connector.postgresql": "info",
    # This logger warns about each of the database's own types every time that it reads them.
    "io.debezium.connector.postgresql.TypeRegistry": "error",
}
_ORPHANED = "Graceful stop of task .* failed.*"
"""Message of a Connect worker about a task that did not stop in time. Source: connect-runtime 4.3.1, Worker."""


def configuration(orphans: str = "") -> str:
    """Configuration of Log4j. A Connect worker's messages about tasks that it could not stop also go to the file
    `orphans`, which each start truncates."""
    appenders: dict[str, Any] = {
        "Console": {"name": "console", "PatternLayout": {"pattern": "%d{ISO8601} %-5p %c{1}: %m%n"}}
    }
    loggers: list[dict[str, Any]] = [{"name": name, "level": level} for name, level in _LEVELS.items()]
    if orphans:
        appenders["File"] = {
            "name": "orphans",
            "fileName": orphans,
            "append": "false",
            "PatternLayout": {"pattern": "%d{ISO8601} %m%n"},
            "RegexFilter": {"regex": _ORPHANED, "onMatch": "ACCEPT", "onMismatch": "DENY"},
        }
        loggers.append({"name": _CONNECT_WORKER, "level": "warn", "AppenderRef": [{"ref": "orphans"}]})
    root = {"level": "warn", "AppenderRef": [{"ref": "console"}]}
    made = {"status": "warn", "Appenders": appenders, "Loggers": {"Root": root, "Logger": loggers}}
    return json.dumps({"Configuration": made}, indent=1)
