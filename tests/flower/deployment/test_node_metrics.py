"""A node's metrics go on from message to message."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from regl_app.core.activity import Activity
from regl_app.flower.deployment.node_metrics import record_message


def read(path: Path) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def trained(number: int) -> Activity:
    seconds = {"train": 3.0, "adapt": 20.0}
    counts = {"real_images": 80, "synthetic_images": 10 * number}
    return Activity("clinic-a", "train", number, seconds, counts)


def test_counters_go_on_where_the_last_process_ended(tmp_path: Path) -> None:
    (tmp_path / "adapters" / "one").mkdir(parents=True)
    (tmp_path / "adapters" / "one" / "weights").write_bytes(bytes(5000))
    path = tmp_path / "metrics.prom"
    record_message(path, tmp_path, trained(1), ok=True)
    record_message(path, tmp_path, Activity("clinic-a", "hello", 0, {"hello": 1.0}), ok=True)
    record_message(path, tmp_path, trained(2), ok=False)
    samples = read(path)
    assert samples["regl_node_messages_total", "ok", "train"] == 1
    assert samples["regl_node_messages_total", "failed", "train"] == 1
    assert samples["regl_node_messages_total", "ok", "hello"] == 1
    assert samples["regl_node_phase_seconds_total", "adapt"] == 40
    assert samples["regl_node_round",] == 2
    assert samples["regl_node_real_images",] == 80
    assert samples["regl_node_synthetic_images",] == 20
    assert samples["regl_node_adapters",] == 1
    assert samples["regl_node_state_bytes",] >= 5000
    assert samples["regl_node_disk_free_bytes",] > 0
    assert samples["regl_node_memory_peak_bytes",] > 1e6
    assert path.stat().st_mode & 0o044 == 0o044  # node_exporter is another user


def test_a_message_without_images_keeps_those_known(tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    record_message(path, tmp_path, trained(3), ok=True)
    record_message(path, tmp_path, Activity("clinic-a", "hello", 0, {"hello": 1.0}), ok=True)
    assert read(path)["regl_node_round",] == 3
    assert read(path)["regl_node_real_images",] == 80


@pytest.mark.parametrize("damage", ["", "regl_node_round what\n", "# TYPE\n\x00{{{"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "metrics.prom"
    path.write_text(damage)
    record_message(path, tmp_path, trained(1), ok=True)
    assert read(path)["regl_node_messages_total", "ok", "train"] == 1
