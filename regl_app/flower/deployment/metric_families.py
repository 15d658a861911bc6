"""Prometheus metric families, in the few forms that server and node need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

UNKNOWN = "unknown"


_Key = TypeVar("_Key", bound=tuple[str, ...])


def gauge(name: str, help_text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, help_text, value=value)


def labelled(
    name: str, help_text: str, labels: Iterable[str], values: Mapping[_Key, float]
) -> Metric:
    """Return a gauge with a value per combination of labels."""
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def counted(
    name: str, help_text: str, labels: Iterable[str], values: Mapping[_Key, float]
) -> Metric:
    """Return a counter, likewise; ``_total`` is added to its name."""
    family = CounterMetricFamily(name, help_text, labels=list(labels))
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family
