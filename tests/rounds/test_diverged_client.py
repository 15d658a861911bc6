"""A client whose model diverges is left out of its round, by the plain loop as by Flower's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app import RunConfig, RunFolder, federate, run_in_process
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Scalar
from regl_app.learning.training.loop import TrainResult, train_local

SETTINGS: dict[str, Scalar] = {
    "method": "regl-dpd",
    "supplement.adapter": "frozen",
    "rounds": 2,
    "data.max-train": 120,
    "data.max-test": 40,
    "train.steps": 2,
    "model.width": 4,
    "supplement.cap": 2,
    "probe.per-class": 2,
    "generator.steps": 2,
    "report": False,
    "tensorboard": False,
}
HUGE = 3e38  # finite, and more than fp32 can add up


@pytest.mark.parametrize("weight", [torch.nan, HUGE], ids=["weights", "answers"])
def test_one_that_diverges_costs_no_run(
    weight: float,
    quick_generator: dict[str, Scalar],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: dict[str, Scalar] = {"cache-dir": str(tmp_path / "c"), "out-dir": str(tmp_path / "r")}
    config = RunConfig.from_flat({**SETTINGS, **quick_generator, **places})
    ruined = derive_seed(config.seed, "client 1", "train", 1)

    def training(model: torch.nn.Module, *args: Any, **keys: Any) -> TrainResult:
        result = train_local(model, *args, **keys)
        if keys["seed"] == ruined:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(weight)
        return result

    monkeypatch.setattr("regl_app.rounds.client_round.train_local", training)
    found = federate(config, 3)
    assert [sorted(each.results) for each in found.rounds] == [[], [0, 2], [0, 1, 2]]
    other = config.updated({"cache-dir": str(tmp_path / "other")})
    history = RunFolder.open(run_in_process(other, clients=3, workers=1)).read_history()
    assert [failure.partition(": failed")[0] for failure in history[1].failures] == [
        "train: client 1"
    ]
    assert [(record.metrics.accuracy, record.metrics.loss) for record in history] == [
        (each.metrics.accuracy, each.metrics.loss) for each in found.rounds
    ]
