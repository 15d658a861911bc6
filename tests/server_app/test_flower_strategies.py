"""Every Flower strategy on offer learns inside the wrapper and leaves a usable model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from regl_app.config import RunConfig
from regl_app.config.choices import STRATEGIES
from regl_app.runs.folder import RunFolder
from server_app.flower_strategies import make_strategy
from server_app.strategy_state import go_on_from


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


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_goes_on_from_what_was_taught(name: str) -> None:
    strategy = make_strategy(RunConfig.from_flat({"server.strategy": name}).server)
    own, taught = (ArrayRecord({"w": Array(np.full(2, value))}) for value in (1.0, 2.0))
    if name == "fedavgm":  # it keeps its last result, and would take it for the start
        strategy.current_arrays = own
    go_on_from(strategy, taught)
    kept = getattr(strategy, "current_arrays", None)
    assert (kept is taught) if name == "fedavgm" else kept is None


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedmedian"])
def test_strategies_learn_with_a_taught_average(
    federate: Callable[..., RunFolder], name: str
) -> None:
    history = federate(server__strategy=name, rounds=3, teaching__head="experts").read_history()
    losses = [record.metrics.loss for record in history]
    assert len(set(losses)) == 4 and not any(record.failures for record in history)
