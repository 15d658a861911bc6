"""Metrics of a run for Prometheus: what the history holds, as families of its text format.

The server's come from :class:`RoundRecord` alone, so they tell nothing that the history does not
(``share-diagnostics``, noise). Units are base units, counters end in ``_total``; docs/operate.md
has the table of names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import Metric

from regl_app.config import RunConfig
from regl_app.core.version import __version__
from regl_app.flower.deployment.metric_families import UNKNOWN, counted, gauge, labelled
from regl_app.runs.records import RoundRecord

STATES = ("running", "finished", "failed", "stopped")

_FAILURE = re.compile(r"(?P<phase>[a-z]+): (?:client (?P<client>\d+)|node \d+): (?P<why>.*)", re.S)


@dataclass
class RunTotals:
    """What the counters of a run have come to; a counter starts anew when a run is resumed."""

    bytes_down: Counter[str] = field(default_factory=Counter)
    bytes_up: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    server_seconds: dict[str, float] = field(default_factory=dict)
    client_seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, record: RoundRecord) -> None:
        """Count a round in."""
        sent, received = record.bytes.clients_down, record.bytes.clients_up
        _count(self.bytes_down, sent, record.bytes.down)
        _count(self.bytes_up, received, record.bytes.up)
        self.failures.update(failure_labels(text) for text in record.failures)
        for phase, seconds in record.seconds.server.items():
            self.server_seconds[phase] = self.server_seconds.get(phase, 0.0) + seconds
        for phase, row in record.seconds.clients.items():
            for client, took in enumerate(row):
                if took is not None:
                    key = (str(client), phase)
                    self.client_seconds[key] = self.client_seconds.get(key, 0.0) + took


def failure_labels(text: str) -> tuple[str, str, str]:
    """Return (phase, client, kind) of a failure as the history words it.

    The kind is ``failed``, ``refused``, ``timeout`` or ``unknown``.
    """
    found = _FAILURE.match(text)
    if found is None:
        return text.partition(":")[0] if re.match(r"[a-z]+:", text) else UNKNOWN, UNKNOWN, UNKNOWN
    why = found["why"]
    kind = next((kind for kind in ("failed", "refused") if why.startswith(kind)), UNKNOWN)
    kind = "timeout" if why.startswith("no reply in time") else kind
    return found["phase"], found["client"] or UNKNOWN, kind


def run_families(
    config: RunConfig,
    name: str,
    state: str,
    record: RoundRecord | None,
    totals: RunTotals,
    *,
    started: float,
    written: float | None,
    clients: int | None = None,
    nodes: int | None = None,
) -> Iterator[Metric]:
    """Yield a run's metrics.

    Args:
        config: the run.
        name: its folder's name.
        state: one of ``STATES``.
        record: the last round's, None before the first.
        totals: what the counters have come to.
        started: when the run began, in seconds since 1970.
        written: when ``record`` was made, likewise.
        clients: K.
        nodes: how many nodes are connected.
    """
    info = {
        "run": name,
        "method": config.method,
        "seed": str(config.seed),
        "data": config.data.source,
        "version": __version__,
    }
    yield labelled("regl_run_info", "What runs.", info, {tuple(info.values()): 1})
    is_in = {(each,): int(each == state) for each in STATES}
    yield labelled("regl_run_state", "1 for the state the run is in.", ["state"], is_in)
    yield gauge("regl_run_start_timestamp_seconds", "When the run began.", started)
    yield gauge("regl_rounds_planned", "Rounds the run is to have.", config.rounds)
    if clients is not None:
        yield gauge("regl_clients", "Clients of the federation.", clients)
    if nodes is not None:
        yield gauge("regl_nodes_connected", "Nodes connected at the last look.", nodes)
    if record is None:
        return
    yield gauge("regl_round", "The last complete round.", record.round)
    if written is not None:
        yield gauge("regl_round_timestamp_seconds", "When it was complete.", written)
    yield from _scores(record)
    yield from _round(record)
    yield from _totals(totals)


def _scores(record: RoundRecord) -> Iterator[Metric]:
    yield gauge("regl_accuracy_ratio", "Global model, whole test set.", record.metrics.accuracy)
    yield gauge("regl_macro_f1_ratio", "Global model, whole test set.", record.metrics.macro_f1)
    if record.metrics.loss is not None:
        yield gauge("regl_loss", "Global model, whole test set.", record.metrics.loss)
    if record.tail is not None:
        yield gauge("regl_tail_accuracy_ratio", "On the long-tailed part.", record.tail.accuracy)
    if record.personalized is not None:
        own = record.personalized
        yield gauge("regl_personalized_accuracy_ratio", "Mean over the clients.", own.mean)
        yield labelled(
            "regl_client_accuracy_ratio",
            "Global model on the client's own test set.",
            ["client"],
            {(str(client),): share for client, share in own.per_client.items()},
        )


def _round(record: RoundRecord) -> Iterator[Metric]:
    yield gauge("regl_round_duration_seconds", "Length of the last round.", record.seconds.wall)
    usable = {("train",): len(record.clients)}
    if record.personalized is not None:
        usable[("evaluate",)] = len(record.personalized.per_client)
    yield labelled("regl_usable_replies", "Of the last round.", ["phase"], usable)
    for name, help_text, matrix in (
        ("regl_real_images", "Real training images.", record.real_counts),
        ("regl_synthetic_images", "Synthetic training images.", record.synthetic_counts),
        ("regl_discrepancy", "Sum of the classes' positive discrepancies.", record.discrepancy),
    ):
        if matrix is not None:
            sums = {(str(k),): _positive(row) for k, row in enumerate(matrix) if row is not None}
            yield labelled(name, help_text, ["client"], sums)


def _totals(totals: RunTotals) -> Iterator[Metric]:
    of = ["client"]
    down = {(client,): count for client, count in totals.bytes_down.items()}
    up = {(client,): count for client, count in totals.bytes_up.items()}
    yield counted("regl_sent_bytes", "Sent to clients.", of, down)
    yield counted("regl_received_bytes", "Received from clients.", of, up)
    labels = ["phase", "client", "kind"]
    yield counted("regl_failures", "Replies that could not be used.", labels, totals.failures)
    server = {(phase,): seconds for phase, seconds in totals.server_seconds.items()}
    yield counted("regl_server_phase_seconds", "Time of the server's phases.", ["phase"], server)
    labels, took = ["client", "phase"], totals.client_seconds
    yield counted("regl_client_phase_seconds", "Time of the clients' phases.", labels, took)


def _count(counter: Counter[str], by_client: Sequence[int], whole: int) -> None:
    for client, size in enumerate(by_client):
        counter[str(client)] += size
    if whole > sum(by_client):  # to and from nodes of which no partition is known
        counter[UNKNOWN] += whole - sum(by_client)


def _positive(row: Sequence[float]) -> float:
    return float(sum(value for value in row if value > 0))
