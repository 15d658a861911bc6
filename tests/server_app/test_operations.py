"""What an operator sees of a run: metrics while it runs and after, log lines, how it ended."""

from __future__ import annotations

import logging
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from prometheus_client.parser import text_string_to_metric_families

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.runs.folder import RunFolder
from regl_app.runs.lock import running
from regl_app.runs.records import GlobalMetrics, RoundRecord
from server_app.prometheus import RunMetrics

Federate = Callable[..., RunFolder]
MakeClient = Callable[..., ClientApp]


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port that nobody gets but a server with SO_REUSEADDR, as Python's have it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_metrics_are_scraped_during_the_run_and_left_behind(
    federate: Federate, make_client: MakeClient, port: int
) -> None:
    scraped: list[str] = []

    def scrape(reply: Message, partition_id: int) -> Message:
        if partition_id == 0:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                scraped.append(answer.read().decode())
        return reply

    folder = federate(make_client(scrape, "train"), metrics_port=port)
    first, second = map(samples, scraped)
    assert first["regl_run_state", "running"] == 1 and first["regl_round",] == 0
    assert second["regl_round",] == 1 and second["regl_nodes_connected",] == 4

    history = folder.read_history()
    left = samples((folder.path / "metrics.prom").read_text())
    assert left["regl_run_state", "finished"] == 1 and left["regl_run_state", "running"] == 0
    assert left["regl_accuracy_ratio",] == pytest.approx(history[-1].metrics.accuracy)
    assert left["regl_round",] == left["regl_rounds_planned",] == 2
    assert left["regl_usable_replies", "train"] == left["regl_clients",] == 4
    sent = sum(value for key, value in left.items() if key[0] == "regl_sent_bytes_total")
    assert sent == sum(record.bytes.down for record in history)
    assert left["regl_real_images", "2"] == sum((history[-1].real_counts or [])[2] or [])
    with pytest.raises(urllib.error.URLError):  # the port is given back
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_who_is_refused_a_run_that_goes_on_leaves_its_metrics_alone(federate: Federate) -> None:
    folder = federate(rounds=1)
    (folder.path / "result.json").unlink()
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    live = folder.path / "metrics.prom"
    live.write_text("the run's own")
    with running(folder.path), pytest.raises(RunError, match="is being run already"):
        federate(rounds=1, resume=str(folder.path))
    assert live.read_text() == "the run's own"
    after = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert {**after, live: b""} == {**before, live: b""}


def test_a_run_that_goes_on_tells_when_its_last_round_was(federate: Federate) -> None:
    folder = federate(rounds=1)
    os.utime(folder.path / "history.jsonl", (1000.0, 1000.0))
    with RunMetrics(folder, folder.read_config()):
        left = samples((folder.path / "metrics.prom").read_text())
    assert left["regl_round",] == 1 and left["regl_round_timestamp_seconds",] == 1000


def test_private_labels_are_in_no_metric(federate: Federate) -> None:
    folder = federate(share_diagnostics=False)
    text = (folder.path / "metrics.prom").read_text()
    assert "_images" not in text and "discrepancy" not in text
    assert "regl_accuracy_ratio" in text


def test_a_busy_metrics_port_fails_no_run(
    federate: Federate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("regl"), "propagate", True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        folder = federate(rounds=1, metrics_port=port)
    result = folder.read_result()
    assert result is not None and result.status == "finished"
    assert f"no metrics over HTTP: metrics-port={port}" in caplog.text


def raising(error: BaseException) -> ClientApp:
    app = ClientApp()

    def fail(message: Message, context: Context) -> Message:
        raise error

    app.query()(fail)
    return app


def test_a_failed_run_is_failed_in_its_metrics_too(federate: Federate, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="out of memory"):
        federate(raising(RuntimeError("out of memory")))
    (path,) = (tmp_path / "runs").iterdir()
    result = RunFolder.open(path).read_result()
    assert result is not None and result.status == "failed"
    assert "out of memory" in (result.error or "")
    left = samples((path / "metrics.prom").read_text())
    assert left["regl_run_state", "failed"] == 1
    assert not (path / ".running").exists()


def test_a_stopped_run_says_that_it_was_stopped(
    federate: Federate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower ends a ServerApp by SystemExit(0), whose text is no reason for anything."""

    def leave(*_: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("server_app.main.discover_clients", leave)
    with pytest.raises(SystemExit):
        federate()
    (path,) = (tmp_path / "runs").iterdir()
    result = RunFolder.open(path).read_result()
    assert result is not None and result.status == "stopped"
    assert "stopped from outside" in (result.error or "")
    assert samples((path / "metrics.prom").read_text())["regl_run_state", "stopped"] == 1


def test_every_line_has_its_node_round_and_phase(
    federate: Federate,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = logging.getLogger("regl")
    monkeypatch.setattr(logger, "propagate", True)

    def speak(reply: Message, partition_id: int) -> Message:
        if partition_id == 3:
            raise RuntimeError("the disk is full")
        return reply

    federate(make_client(speak, "train"), rounds=1)
    assert all(record.who == "server" for record in caplog.records)  # type: ignore[attr-defined]
    found = {record.getMessage(): (record.round, record.phase) for record in caplog.records}  # type: ignore[attr-defined]
    assert found["train: client 3: failed: the disk is full"] == (1, "aggregate")
    (last,) = [where for text, where in found.items() if text.startswith("round 1/1")]
    assert last == (1, "record")


def test_a_round_that_a_resumed_run_repeats_counts_once(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    failures = ["train: client 1: failed: out of memory"]
    metrics = GlobalMetrics(accuracy=0.5, macro_f1=0.4)
    rounds = [RoundRecord(round=n, metrics=metrics, failures=failures) for n in range(5)]
    for record in rounds[:4]:
        folder.append_round(record)
    with RunMetrics(folder, folder.read_config()) as live:
        for record in rounds[2:]:  # the checkpoints of rounds 2 and 3 were damaged, or not there
            folder.append_round(record)
            live.add(record)
            left = samples((folder.path / "metrics.prom").read_text())
            told = [value for key, value in left.items() if key[0] == "regl_failures_total"]
            assert sum(told) == record.round + 1
