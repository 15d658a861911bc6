"""Methods against label skew in a small federation: they learn, and twice the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app import RunConfig, federate
from regl_app.core.types import Scalar

SKEWED: dict[str, Scalar] = {
    "rounds": 3,
    "data.max-train": 300,
    "data.max-test": 60,
    "data.image-size": 16,
    "train.steps": 20,
    "model.width": 4,
    "partition.scheme": "pathological",
    "partition.classes-per-client": 5,
    "server.personalized-every": 0,
}


@pytest.mark.parametrize("method", ["fedlc", "fedrs", "balanced-softmax", "fedntd", "ccvr"])
def test_a_skewed_federation_learns_and_twice_the_same(method: str, tmp_path: Path) -> None:
    config = RunConfig.from_flat({**SKEWED, "method": method, "cache-dir": str(tmp_path)})
    assert (config.objective, config.uses_generator) == (method, False)
    first, second = (federate(config, 3) for _ in range(2))
    assert first.rounds[-1].metrics.accuracy > first.rounds[0].metrics.accuracy + 0.3
    assert [each.metrics for each in first.rounds] == [each.metrics for each in second.rounds]
    other = second.model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in first.model.state_dict().items())
