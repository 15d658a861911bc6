"""What a node's operator sees of its client."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Context, RecordDict

from client_app.monitoring import monitored, node_name
from regl_app.core.activity import current, note, phase

NodeValue = int | float | str | bytes | bool


def context(**node: NodeValue) -> Context:
    node = {"partition-id": 2, "num-partitions": 3} | {
        key.replace("_", "-"): value for key, value in node.items()
    }
    return Context(1, 1, dict(node), RecordDict(), {"method": "fedavg"})  # type: ignore[arg-type]


def request(number: int = 4) -> RecordDict:
    return RecordDict({"regl": ConfigRecord({"round": number})})


def train(content: RecordDict, _: Context) -> RecordDict:
    phase("adapt")
    note(real_images=12)
    phase("train")
    return content


def exhaust(_: RecordDict, __: Context) -> RecordDict:
    phase("adapt")
    raise MemoryError("no memory left")


answer, fail = monitored("train", train), monitored("train", exhaust)


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/flwr-clientapp"])
    monkeypatch.setattr(logging.getLogger("regl"), "propagate", True)
    caplog.set_level(logging.INFO, logger="regl")


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ({}, "client 2"),
        ({"name": "clinic-a"}, "clinic-a"),
        ({"name": "St. Mary\n2026 ERROR"}, "St.-Mary-2026-ERROR"),  # forges no line
    ],
)
def test_a_client_is_called_by_its_site(node: dict[str, NodeValue], name: str) -> None:
    assert node_name(context(**node)) == name


@pytest.mark.usefixtures("deployed")
def test_a_deployment_logs_a_line_per_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer(request(), context(name="clinic-a", state_dir=str(tmp_path)))
    (record,) = caplog.records
    assert (record.who, record.round, record.phase) == ("clinic-a", 4, "train")  # type: ignore[attr-defined]
    assert record.getMessage() == "answered: 12 real images, train 0 s, adapt 0 s"
    assert current() is None


@pytest.mark.usefixtures("deployed")
def test_an_error_is_in_the_nodes_own_log_and_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MemoryError):
        fail(request(), context(name="clinic-a", state_dir=str(tmp_path)))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert (record.who, record.round, record.phase) == ("clinic-a", 4, "adapt")  # type: ignore[attr-defined]
    assert record.getMessage() == "failed: MemoryError: no memory left"
    assert record.exc_info  # the node is the only place that can show where it came from
    text = (tmp_path / "metrics.prom").read_text()
    assert 'regl_node_messages_total{outcome="failed",phase="train"} 1.0' in text


@pytest.mark.usefixtures("deployed")
def test_without_a_state_folder_metrics_lie_below_the_cache(tmp_path: Path) -> None:
    there = context()
    there.run_config["cache-dir"] = str(tmp_path)
    answer(request(), there)
    assert "regl_node_round 4.0" in (tmp_path / "metrics" / "client-2.prom").read_text()


@pytest.mark.usefixtures("deployed")
def test_metrics_that_cannot_be_written_fail_no_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert answer(request(), context(state_dir=str(tmp_path / "file")))
    assert "metrics cannot be written" in caplog.text


def test_a_simulation_stays_quiet_and_writes_no_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("regl"), "propagate", True)
    caplog.set_level(logging.INFO, logger="regl")
    there = context()
    there.run_config["cache-dir"] = str(tmp_path)
    answer(request(), there)
    with pytest.raises(MemoryError):
        fail(request(), there)
    assert caplog.records == [] and list(tmp_path.iterdir()) == []


def test_a_turn_ends_with_the_card_s_memory_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("all"))
    answer(request(), context())
    assert given == ["all"]
    with pytest.raises(MemoryError):
        fail(request(), context())
    assert given == ["all", "all"]


@pytest.mark.usefixtures("deployed")
def test_a_card_that_has_failed_is_told_by_what_it_failed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA answers each later call by the first fault, also one that gives memory back."""

    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.cuda.empty_cache", broken)
    with pytest.raises(MemoryError):
        fail(request(), context(name="clinic-a", state_dir=str(tmp_path)))
    assert 'outcome="failed"' in (tmp_path / "metrics.prom").read_text()
