"""A run's metrics say what its history says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from regl_app.config import RunConfig
from regl_app.flower.deployment.exposition import Snapshot
from regl_app.flower.deployment.run_metrics import RunTotals, failure_labels, run_families
from regl_app.runs.records import GlobalMetrics, Personalized, PhaseSeconds, RoundRecord, Traffic

Samples = dict[tuple[str, ...], float]


def record(number: int = 1, **changes: object) -> RoundRecord:
    known: dict[str, object] = {
        "round": number,
        "metrics": GlobalMetrics(accuracy=0.5, macro_f1=0.25, loss=1.5),
        "seconds": PhaseSeconds(clients={"adapt": [2.0, None]}, server={"aggregate": 1.0}, wall=9),
        "bytes": Traffic(down=35, up=7, clients_down=[10, 20], clients_up=[7, 0]),
        "clients": {0: {}},
        "failures": ["train: client 1: no reply in time (server.timeout)"],
    }
    return RoundRecord.model_validate(known | changes)


def shown(*records: RoundRecord, state: str = "running") -> Samples:
    """Return the samples that a scraper would read, by name and label values in label request."""
    totals = RunTotals()
    for each in records:
        totals.add(each)
    config = RunConfig.from_flat({"method": "fedavg", "rounds": 4, "seed": 3})
    registry = CollectorRegistry()
    last = records[-1] if records else None
    families = run_families(config, "mine", state, last, totals, started=100.0, written=200.0)
    registry.register(Snapshot(families))
    read: list[Metric] = list(text_string_to_metric_families(generate_latest(registry).decode()))
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in read
        for sample in family.samples
    }


def test_a_run_that_has_just_begun_says_so() -> None:
    samples = shown()
    assert samples["regl_run_state", "running"] == 1
    assert samples["regl_run_state", "failed"] == 0
    assert samples["regl_rounds_planned",] == 4
    assert samples["regl_run_start_timestamp_seconds",] == 100
    assert not any(name[0] == "regl_round" for name in samples)


def test_the_alarm_for_a_stuck_run_needs_nothing_that_a_run_before_its_first_round_lacks() -> None:
    """What comes with a round has something to fall back on in the rule of docs/operate.md."""
    docs = Path(__file__).parents[3] / "docs" / "operate.md"
    (rule,) = [line for line in docs.read_text().splitlines() if "time() - " in line]
    before, after = ({name for name, *_ in shown(*records)} for records in ((), (record(),)))
    late = set(re.findall(r"regl_\w+", rule)) - before
    assert late == {"regl_round_timestamp_seconds", "regl_round_duration_seconds"} <= after
    for name in late:
        (instead,) = re.findall(rf"\([^()]*{name}[^()]* or ([^()]*)\)", rule)
        assert set(re.findall(r"regl_\w+", instead)) <= before


def test_scores_are_those_of_the_last_round_and_counters_of_all() -> None:
    own = Personalized(mean=0.75, per_client={0: 1.0, 1: 0.5})
    samples = shown(record(1), record(2, personalized=own))
    assert samples["regl_round",] == 2
    assert samples["regl_accuracy_ratio",] == 0.5
    assert samples["regl_macro_f1_ratio",] == 0.25
    assert samples["regl_loss",] == 1.5
    assert samples["regl_personalized_accuracy_ratio",] == 0.75
    assert samples["regl_client_accuracy_ratio", "1"] == 0.5
    assert samples["regl_usable_replies", "train"] == 1
    assert samples["regl_usable_replies", "evaluate"] == 2
    assert samples["regl_round_duration_seconds",] == 9
    assert samples["regl_server_phase_seconds_total", "aggregate"] == 2
    assert samples["regl_client_phase_seconds_total", "0", "adapt"] == 4
    assert ("regl_client_phase_seconds_total", "1", "adapt") not in samples
    assert samples["regl_sent_bytes_total", "1"] == 40
    assert samples["regl_sent_bytes_total", "unknown"] == 10
    assert samples["regl_received_bytes_total", "0"] == 14
    assert samples["regl_failures_total", "1", "timeout", "train"] == 2


def test_images_and_discrepancies_are_there_only_if_the_history_has_them() -> None:
    private = shown(record())
    assert not {name for name, *_ in private if "images" in name or "discrepancy" in name}
    open_ = shown(
        record(
            real_counts=[[3, 1], None],
            synthetic_counts=[[0, 4], None],
            discrepancy=[[-0.5, 0.25], None],
        )
    )
    assert open_["regl_real_images", "0"] == 4
    assert open_["regl_synthetic_images", "0"] == 4
    assert open_["regl_discrepancy", "0"] == 0.25
    assert ("regl_discrepancy", "1") not in open_


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("train: client 3: failed: out of memory", ("train", "3", "failed")),
        ("train: client 3: refused: NaN in\nweights", ("train", "3", "refused")),
        (
            "evaluate: node 77: no reply in time (server.timeout)",
            ("evaluate", "unknown", "timeout"),
        ),
        ("train: client 3: whatever comes", ("train", "3", "unknown")),
        ("train: a reply to no request of this round was dropped", ("train", "unknown", "unknown")),
        ("something else", ("unknown", "unknown", "unknown")),
    ],
)
def test_failures_are_told_apart(text: str, labels: tuple[str, str, str]) -> None:
    assert failure_labels(text) == labels


def test_names_follow_prometheus_rules() -> None:
    for name, *_ in shown(record()):
        assert name.startswith("regl_") and name == name.lower()
        assert not name.endswith(("_ms", "_mb", "_percent", "_count"))
