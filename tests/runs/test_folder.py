"""The run folder survives crashes, reruns and nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, RunError
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    RunResult,
)


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


def test_keys_of_another_source_that_an_earlier_version_took_are_left_out(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"name": "old"})
    folder = RunFolder.open(RunFolder.create(config, tmp_path).path)
    told = json.loads((folder.path / "config.json").read_text())
    told["config"] |= {"data.classes": "cat,emu", "data.channels": 1, "data.splits": "train"}
    (folder.path / "config.json").write_text(json.dumps(told))
    assert folder.read_config() == config


def test_the_environment_says_what_the_generator_runs_in(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"method": "regl", "generator.precision": "bf16"})
    found = RunFolder.create(config, tmp_path).read_environment()
    assert found["generator-precision"] == "bf16, weights held in fp32"
    plain = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    assert "generator-precision" not in plain.read_environment()


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


def test_a_run_that_failed_says_so_when_its_model_is_asked_for(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    folder.write_result(RunResult(status="failed", seconds=1.0, error="too few images"))
    with pytest.raises(RunError, match=r"the run has failed and left no model: too few images"):
        folder.load_model()


def test_a_damaged_model_is_not_loaded(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    path = folder.save_model({"w": torch.arange(50.0)})
    content = path.read_bytes()
    for damaged in (content[:-9], content[:-1] + bytes([content[-1] ^ 4]), b""):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"model\.safetensors: is damaged"):
            folder.load_model()


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
