"""`probe.py started|ready <metrics port>`: what a broker says of itself; the pod's probes ask this."""

from __future__ import annotations

import sys
import urllib.request

RUNNING = 3.0
"""A broker's state once it serves. Source: org.apache.kafka.metadata.BrokerState."""


def values(text: str, name: str) -> list[float]:
    """Every value of a metric."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return [float(line.rsplit(" ", 1)[1]) for line in lines]


def main(question: str, port: str) -> int:
    """Exit status 0 for yes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=4) as answer:
        text = answer.read().decode()
    running = values(text, "kafka_broker_state") == [RUNNING]
    behind = max(values(text, "kafka_replica_fetcher_max_lag"), default=0.0)
    if question == "started" and behind > 0:
        print(f"{behind:.0f} events behind the leaders of its partitions")
        return 1
    return 0 if running else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main(*sys.argv[1:]))
    except OSError as error:
        print(error)
        raise SystemExit(1) from None
