"""What can be known before is refused before: no node is asked, and no image is read if it can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from regl_app import federate
from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.core.errors import ReglError
from regl_app.core.tensor_files import save_tensors, save_weights
from regl_app.core.types import Scalar
from regl_app.data import federation
from regl_app.data.federation import Federation
from regl_app.flower.engines.in_process import run_in_process
from regl_app.learning.models import build_model

FLWR: dict[str, Scalar] = {
    "partition.scheme": "flwr",
    "partition.partitioner": "DirichletPartitioner",
}


@pytest.fixture
def nobody() -> ClientApp:
    """Return the nodes' app: who asks it has come too far."""
    app = ClientApp()

    def asked(_: Message, __: Context) -> Message:
        raise AssertionError("a node was asked")

    app.query()(asked)
    return app


@pytest.fixture
def refused(tmp_path: Path, nobody: ClientApp) -> Callable[..., str]:
    """Return what a run of two clients with changed keys is refused by."""

    def message(changes: dict[str, Scalar]) -> str:
        keys: dict[str, Scalar] = {
            "method": "fedavg",
            "data.max-train": 40,
            "data.max-test": 20,
            "model.width": 4,
            "out-dir": str(tmp_path / "runs"),
            "cache-dir": str(tmp_path / "cache"),
            "tensorboard": False,
            "report": False,
        }
        with pytest.raises(ReglError) as caught:
            run_in_process(RunConfig.from_flat(keys | changes), clients=2, client_app=nobody)
        return str(caught.value)

    return message


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({**FLWR, "partition.arguments": '{"alpha": -1}'}, "DirichletPartitioner"),
        ({**FLWR, "partition.arguments": '{"alpha": [1.0, 2.0, 3.0]}'}, "DirichletPartitioner"),
        ({"partition.scheme": "file", "partition.file": "absent.csv"}, "absent.csv cannot be read"),
        ({"partition.scheme": "file", "partition.file": "three.json"}, "client 2, and there are 2"),
        ({"partition.scheme": "file", "partition.file": "odd.json"}, "client 0, entry 1: must be"),
    ],
)
def test_a_partition_for_other_clients_is_refused_before_images_are_read(
    keys: dict[str, Scalar],
    words: str,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("three.json").write_text(json.dumps([[0], [1], [2]]))
    Path("odd.json").write_text(json.dumps([[0, None], [1]]))
    monkeypatch.setattr("regl_app.data.prompt_table.load_source", _unread)
    monkeypatch.setattr(federation, "load_source", _unread)
    assert words in refused(keys)
    assert not Path("runs").exists()
    with pytest.raises(ReglError, match=words):
        Federation.load(RunConfig.from_flat(keys), 2)


def _unread(*_: object, **__: object) -> None:
    raise AssertionError("images were read")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"partition.looks": "plain,tinted"}, "'tinted' is for colour pictures"),
        ({"partition.scheme": "column", "partition.column": "ward"}, "partition.column='ward'"),
    ],
)
def test_what_is_not_for_these_images_is_refused_before_nodes_are_asked(
    keys: dict[str, Scalar], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(keys)


def _weights(folder: Path) -> None:
    """Leave files that a run of a 'cnn' of width 4 cannot start from, and folders of runs."""
    like = build_model(ModelConfig(width=8), 10, 1, 32, 0).state_dict()
    save_weights(folder / "wide.safetensors", like)
    save_weights(folder / "flipped.safetensors", like)
    content = bytearray((folder / "flipped.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "flipped.safetensors").write_bytes(content)
    own = build_model(ModelConfig(width=4), 10, 1, 32, 0).state_dict()
    save_weights(folder / "odd.safetensors", {k: v * torch.nan for k, v in own.items()})
    save_tensors(folder / "round-0001.safetensors", {f"model.{k}": v for k, v in own.items()})
    (folder / "text.safetensors").write_text("no tensors at all")
    for name in ("cut", "whole"):
        (folder / name / "checkpoints").mkdir(parents=True)
        (folder / name / "history.jsonl").write_text("{}")
    (folder / "cut/checkpoints/best-0002.safetensors").touch()
    save_weights(folder / "whole/model.safetensors", own)


@pytest.mark.parametrize(
    ("weights", "words", "made"),
    [
        ("none.safetensors", "none.safetensors' is no file", False),
        ("nonsense", "must be a .safetensors file, or 'owner/name'", False),
        ("text.safetensors", "is no safetensors file", False),
        ("cut", "that has not ended, and has no model.safetensors yet", False),
        ("cut/model.safetensors", "or take its best round so far, ", False),
        ("whole", "is no file of that run: its model is ", False),
        ("flipped.safetensors", "is damaged: its checksum is wrong", True),
        ("odd.safetensors", "holds NaN or infinity in ", True),
        ("round-0001.safetensors", "no model (take its model.safetensors", True),
        ("wide.safetensors", "holds no 'cnn' of this run's classes and images", True),
    ],
)
def test_weights_that_no_run_can_start_from_are_refused_before_nodes_are_asked(
    weights: str,
    words: str,
    made: bool,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _weights(tmp_path)
    keys: dict[str, Scalar] = {"model.weights": weights}
    told = refused(keys)
    assert "model.weights=" in told and words in told
    assert Path("runs").exists() == made  # what needs no image leaves no run
    if not made:
        monkeypatch.setattr(federation, "load_source", _unread)
        with pytest.raises(ReglError, match=re.escape(words)):
            federate(RunConfig.from_flat({"method": "fedavg", **keys}), 2)


@pytest.mark.parametrize("kind", ["absent", "other"])
def test_features_of_distances_are_looked_for_before_a_round(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "inception.safetensors"
    if kind == "other":
        save_weights(file, {"conv.weight": torch.zeros(2)})
    keys: dict[str, Scalar] = {
        "method": "regl-free",
        "supplement.distance": str(file),
        "data.max-train": 40,
        "data.max-test": 20,
        "model.width": 4,
        "out-dir": str(tmp_path / "runs"),
        "cache-dir": str(tmp_path / "cache"),
    }
    words = "cannot be read on this machine" if kind == "absent" else "holds no Inception v3"
    with pytest.raises(
        ReglError, match=rf"hello: node .* failed: client 0: supplement.distance=.*{words}"
    ):
        run_in_process(RunConfig.from_flat(keys), clients=2)
    with pytest.raises(ReglError, match=words):
        federate(RunConfig.from_flat(keys), 2)
