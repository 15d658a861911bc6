"""Runs with others' models: all that needs body and head finds them, whoever runs side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regl_app import federate
from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("short_calibration")

MODULE = "own_nets_of_a_run"
NETS = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes, channels, image_size):
        super().__init__(
            nn.Conv2d(channels, 4, 3, 2, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(4 * (image_size // 2) ** 2, num_classes),
        )


class Wrong(Net):
    def forward(self, x):
        return super().forward(x)[:, 1:]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    (tmp_path / f"{MODULE}.py").write_text(NETS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)

    def make(**changes: Scalar) -> RunConfig:
        own = {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
        keys: dict[str, Scalar] = {
            "model.name": f"{MODULE}:Net",
            "rounds": 2,
            "data.max-train": 120,
            "data.max-test": 40,
            "data.image-size": 16,
            "train.steps": 2,
            "report": False,
            "tensorboard": False,
            "out-dir": str(tmp_path / "runs"),
            "cache-dir": str(tmp_path / "cache"),
        }
        return RunConfig.from_flat(keys | own)

    return make


@pytest.mark.parametrize("method", ["scaffold", "moon", "fedrep", "ccvr"])
def test_every_method_finds_body_and_head(config: Callable[..., RunConfig], method: str) -> None:
    keys: dict[str, Scalar] = {"method": method, "train__augment": "flip,colour"}
    run = RunFolder.open(run_in_process(config(**keys), clients=3, workers=2))
    plain = federate(config(**keys), 3)
    assert [each.metrics.accuracy for each in plain.rounds] == [
        record.metrics.accuracy for record in run.read_history()
    ]
    weights = run.load_model()
    assert all(
        torch.equal(value, weights[name]) for name, value in plain.model.state_dict().items()
    )
    assert (run.path / "features.npz").is_file() == (method != "fedrep")


def test_experts_and_the_server_find_them_too(
    config: Callable[..., RunConfig], quick_generator: dict[str, Scalar]
) -> None:
    small: dict[str, Scalar] = {
        **quick_generator,
        "supplement.cap": 2,
        "pool.per-class": 2,
        "probe.per-class": 2,
        "generator.steps": 2,
        "lora.steps": 2,
        "dpo.steps": 2,
        "teaching.steps": 2,
        "server.tune-steps": 1,
    }
    for method, more in (
        ("regl-free", {"teaching.head": "experts", "teaching.distill": "experts"}),
        ("feddpd", {}),
    ):
        found = config(method=method).updated({**small, **more})
        assert len(federate(found, 2).rounds) == 3


def test_a_run_starts_from_weights_that_the_server_alone_reads(
    config: Callable[..., RunConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = config(method="fedavg")
    torch.manual_seed(0)
    build_net = __import__(MODULE).Net
    net: nn.Module = build_net(1000, 1, 16)
    save_file(dict(net.state_dict()), tmp_path / "pretrained.safetensors")
    weights = str(tmp_path / "pretrained.safetensors")
    started = keys.updated({"model.weights": weights, "train.lr": 1e-9, "train.weight-decay": 0.0})
    with caplog.at_level("INFO", logger="regl"):
        run = RunFolder.open(run_in_process(started, clients=2))
    assert "keeps the running statistics" in caplog.text
    assert "with a new head for 10 classes" in caplog.text
    kept = run.load_model()["body.0.weight"]
    assert torch.allclose(kept, net.state_dict()["0.weight"], atol=1e-6)
    result = run.path / "result.json"
    result.unlink()
    Path(weights).unlink()  # a run that goes on has its own
    (run.path / "history.jsonl").write_text(
        "".join((run.path / "history.jsonl").read_text().splitlines(keepends=True)[:-1])
    )
    max(run.checkpoints.iterdir()).unlink()
    again = RunFolder.open(run_in_process(started.updated({"resume": str(run.path)}), clients=2))
    assert torch.equal(again.load_model()["body.0.weight"], kept)


def test_a_model_that_does_not_fit_fails_before_any_client_is_asked(
    config: Callable[..., RunConfig],
) -> None:
    with pytest.raises(ConfigError, match=r"must return logits \(N, 10\).*returned \(2, 9\)"):
        run_in_process(config(method="fedavg", model__name=f"{MODULE}:Wrong"), clients=2)
