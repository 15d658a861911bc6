"""Every Flower strategy on offer learns inside the wrapper and leaves a usable model."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from regl_app.config.sections import ServerConfig
from regl_app.runs.folder import RunFolder

NAMES = get_args(ServerConfig.model_fields["strategy"].annotation)


@pytest.mark.parametrize("name", NAMES)
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
