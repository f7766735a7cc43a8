"""Metrics of the fast path: plain numbers that are converted to Prometheus' metrics on request.

prometheus_client takes a lock per value; with ten values per request, that is a tenth of a request's time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds in seconds: cached answers take a millisecond, streams a minute."""


class Count(Collector):
    """A counter with labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self.values: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def collect(self) -> Iterable[Metric]:
        """Convert to Prometheus' metrics."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self.values.items()):
            family.add_metric(labels, value)
        yield family


class Spread(Collector):
    """A histogram of seconds with labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._values: dict[tuple[str, ...], list[float]] = {}

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        """Record a value."""
        found = self._values.get(labels)
        if found is None:
            found = self._values[labels] = [0.0] * (len(BUCKETS_S) + 2)
        found[bisect_left(BUCKETS_S, seconds)] += 1
        found[-1] += seconds

    def collect(self) -> Iterable[Metric]:
        """Convert to Prometheus' metrics."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, found in list(self._values.items()):
            total, buckets = 0.0, []
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), found[:-1], strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, found[-1])
        yield family
