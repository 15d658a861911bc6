"""A first model that synthetic images have taught, in runs over Flower's messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regl_app import RunConfig, RunFolder, run_in_process
from regl_app.core.types import Scalar
from server_app.round_loop import RoundLoop

STOPPED = "stopped here"


@pytest.fixture
def config(tmp_path: Path, quick_generator: dict[str, Scalar]) -> Callable[..., RunConfig]:
    keys: dict[str, Scalar] = {
        "method": "fedavg",
        "rounds": 2,
        "data.max-train": 120,
        "data.max-test": 40,
        "train.steps": 2,
        "model.width": 4,
        "pool.per-class": 3,
        "generator.steps": 2,
        "teaching.first-steps": 5,
        "report": False,
        "tensorboard": False,
        "out-dir": str(tmp_path),
        "cache-dir": str(tmp_path / "cache"),
    }
    return lambda **changes: RunConfig.from_flat({**keys, **quick_generator, **changes})


def model(folder: RunFolder) -> dict[str, torch.Tensor]:
    return dict(folder.load_model())


def test_round_0_tells_what_it_took(config: Callable[..., RunConfig]) -> None:
    first, second, _ = RunFolder.open(run_in_process(config(), clients=2)).read_history()
    assert first.seconds.server == {"teach": first.seconds.wall} and first.seconds.wall > 0
    assert "teach" not in second.seconds.server


@pytest.mark.parametrize(("before", "taught"), [(1, 2), (2, 1)])
def test_who_goes_on_teaches_only_before_round_1(
    before: int,
    taught: int,
    config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = RunFolder.open(run_in_process(config(name="whole"), clients=2))
    caplog.clear()
    train = RoundLoop._train

    def stopped(self: RoundLoop, number: int) -> object:
        if number == before:
            raise RuntimeError(STOPPED)
        return train(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(RoundLoop, "_train", stopped)
        with pytest.raises(RuntimeError, match=STOPPED):
            run_in_process(config(name="broken"), clients=2)
    (broken,) = whole.path.parent.glob("broken*")
    again = RunFolder.open(run_in_process(config(resume=str(broken)), clients=2))
    assert caplog.text.count("first model: 5 steps on 30 synthetic images") == taught
    found, wanted = model(again), model(whole)
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())
