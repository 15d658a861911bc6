"""The run folder survives crashes, reruns and nonsense."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, RunError
from regl_app.runs.folder import (
    Checkpoint,
    FederationFacts,
    GlobalMetrics,
    Personalized,
    RoundRecord,
    RunFolder,
    RunResult,
)


def _record(number: int, **changes: object) -> RoundRecord:
    fields: dict[str, object] = {
        "round": number,
        "metrics": GlobalMetrics(accuracy=0.5, macro_f1=0.4, loss=1.0, per_class=[0.5, None]),
    }
    return RoundRecord.model_validate(fields | changes)


def test_create_numbers_the_folder_when_the_name_is_taken(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"method": "fedavg", "seed": 3})
    names = [RunFolder.create(config, tmp_path).path.name for _ in range(3)]
    assert names == ["fedavg-digits-s3", "fedavg-digits-s3-2", "fedavg-digits-s3-3"]


def test_config_round_trips_with_its_environment(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"partition.beta": 0.01, "name": "mine"})
    folder = RunFolder.open(RunFolder.create(config, tmp_path).path)
    assert folder.name == "mine"
    assert folder.read_config() == config
    assert folder.read_environment()["torch"] == torch.__version__.split("+")[0]


def test_out_dir_defaults_to_the_configured_one(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"out-dir": str(tmp_path / "deep" / "runs")})
    assert RunFolder.create(config).path.parent == tmp_path / "deep" / "runs"


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "with space"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name must be one folder name"):
        RunFolder.create(RunConfig.from_flat({"name": name}), tmp_path)


def test_open_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.json"):
        RunFolder.open(tmp_path)


def test_a_config_that_is_no_longer_valid_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    path = folder.path / "config.json"
    content = json.loads(path.read_text())
    content["config"]["partition.beta"] = -1.0
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"(?s)config\.json.*partition\.beta"):
        folder.read_config()


def test_history_round_trips_numpy_and_absent_rows(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    first = _record(
        1,
        quotas=[np.array([1, 2]), None],
        discrepancy=np.array([[0.1, -0.2], [0.0, 0.5]]),
        personalized=Personalized(mean=0.5, per_client={0: 0.25, 7: 0.75}),
        clients={7: {"node_id": 2**63 + 5, "loss": 0.5}},
    )
    folder.append_round(first)
    folder.append_round(_record(2))
    read = folder.read_history()
    assert read == [first, _record(2)]
    assert read[0].quotas == [[1, 2], None]
    assert read[0].personalized is not None
    assert read[0].personalized.per_client[7] == 0.75


def test_a_torn_last_line_is_reported_and_overwritten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    folder.append_round(_record(1))
    with (folder.path / "history.jsonl").open("a") as stream:
        stream.write('{"round": 2, "metr')
    with caplog.at_level(logging.WARNING, logger="regl"):
        assert [record.round for record in folder.read_history()] == [1]
    assert "line 2 is torn" in caplog.text
    folder.append_round(_record(2))
    assert [record.round for record in folder.read_history()] == [1, 2]


def test_a_bad_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    (folder.path / "history.jsonl").write_text('{"round": 1}\n')
    with pytest.raises(RunError, match=r"history\.jsonl:1: not a round record"):
        folder.read_history()


def test_a_resumed_round_replaces_the_first_attempt(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    for record in (_record(1), _record(2), _record(2, failures=["again"])):
        folder.append_round(record)
    assert [record.failures for record in folder.read_history()] == [[], ["again"]]


def test_a_diverged_loss_is_recorded_as_none() -> None:
    metrics = GlobalMetrics(accuracy=0.1, macro_f1=0.0, loss=float("nan"))
    assert metrics.loss is None


@pytest.mark.parametrize(
    "changes",
    [
        {"quotas": [[1, 2], [3]]},
        {"quotas": [[1, 2]], "discrepancy": [[0.1, 0.2], [0.1, 0.2]]},
        {"quotas": [[1, -2]]},
        {"discrepancy": [[float("inf"), 0.0]]},
        {"metrics": {"accuracy": 1.5, "macro_f1": 0.0}},
        {"round": -1},
        {"unknown": 1},
    ],
)
def test_nonsense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _record(1, **changes)


def test_weights_round_trip_from_channels_last_and_shared_memory(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    conv = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    folder.save_model({"a": conv, "b": conv})
    loaded = folder.load_model()
    assert torch.equal(loaded["a"], conv)
    assert torch.equal(loaded["b"], conv)


def test_a_missing_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be read"):
        RunFolder.create(RunConfig(), tmp_path).load_model()


def test_a_damaged_model_is_not_loaded(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    path = folder.save_model({"w": torch.arange(50.0)})
    content = path.read_bytes()
    for damaged in (content[:-9], content[:-1] + bytes([content[-1] ^ 4]), b""):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"model\.safetensors: is damaged"):
            folder.load_model()


def test_only_the_last_two_checkpoints_stay(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    assert folder.read_checkpoint() is None
    for number in (1, 2, 9, 10):
        weights, state = {"w": torch.full((2,), float(number))}, {"text": torch.tensor([number])}
        folder.checkpoint(Checkpoint(number, weights, state))
    kept = sorted(path.name for path in folder.checkpoints.iterdir())
    assert kept == ["round-0009.safetensors", "round-0010.safetensors"]
    found = folder.read_checkpoint()
    assert found is not None and found.round == 10
    assert found.weights["w"].tolist() == [10, 10] and found.state["text"].tolist() == [10]


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    for number in (1, 2):
        folder.checkpoint(Checkpoint(number, {"w": torch.full((99,), float(number))}, {}))

    def damage(path: Path) -> None:
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
        path.write_bytes({"truncated": content[:-5], "flipped": flipped, "emptied": b""}[how])

    damage(folder.checkpoints / "round-0002.safetensors")
    found = folder.read_checkpoint()
    assert found is not None and found.round == 1 and found.weights["w"][0] == 1
    assert "round-0002.safetensors: damaged" in caplog.text
    damage(folder.checkpoints / "round-0001.safetensors")
    with pytest.raises(RunError, match="2 checkpoints, all damaged"):
        folder.read_checkpoint()


def test_facts_and_result_round_trip(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    assert folder.read_facts() is None
    assert folder.read_result() is None
    facts = FederationFacts(class_names=["0", "1"], num_clients=1, train_counts=[[3, 0]])
    folder.write_facts(facts)
    folder.write_result(RunResult(status="failed", seconds=1.5, error="no replies"))
    assert folder.read_facts() == facts
    result = folder.read_result()
    assert result is not None
    assert result.error == "no replies"
