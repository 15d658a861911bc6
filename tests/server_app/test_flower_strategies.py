"""Every Flower strategy on offer learns inside the wrapper and leaves a usable model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from regl_app.config.choices import STRATEGIES
from regl_app.runs.folder import RunFolder


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_changes_the_model(federate: Callable[..., RunFolder], name: str) -> None:
    folder = federate(server__strategy=name)
    model = folder.load_model()
    assert all(value.dtype == torch.float32 for value in model.values())
    losses = [record.metrics.loss for record in folder.read_history()]
    assert len(set(losses)) == 3
    assert not any(record.failures for record in folder.read_history())


def test_momentum_makes_fedavgm_differ_from_fedavg(federate: Callable[..., RunFolder]) -> None:
    final = [
        federate(server__strategy=name, rounds=3).read_history()[-1].metrics.loss
        for name in ("fedavg", "fedavgm")
    ]
    assert final[0] != final[1]
