"""Golden values of the local objectives."""

from __future__ import annotations

import copy
import math
from typing import get_args

import pytest
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.learning.methods import OBJECTIVES, make_objective


def _linear() -> nn.Module:
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    return nn.Sequential(nn.Flatten(), layer)


IMAGES = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 3.0]]]])  # logits (1, 0) and (0, 3)
LABELS = torch.tensor([0, 0])
CROSS_ENTROPY = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 2


def test_fedavg_is_mean_cross_entropy() -> None:
    objective = make_objective(RunConfig.from_flat({"method": "fedavg"}))
    assert not objective.needs_global
    assert float(objective.loss(_linear(), IMAGES, LABELS, None).detach()) == pytest.approx(
        CROSS_ENTROPY
    )


def test_fedprox_adds_half_mu_times_squared_distance() -> None:
    config = RunConfig.from_flat({"method": "fedprox", "train.proximal": 0.1})
    objective = make_objective(config)
    assert objective.needs_global
    model = _linear()
    base = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(torch.tensor([[1.0, -2.0], [0.0, 0.5]]))
    loss = objective.loss(model, IMAGES, LABELS, base)
    assert float(loss.detach()) == pytest.approx(CROSS_ENTROPY + 0.1 / 2 * (1 + 4 + 0.25))


def test_fedprox_at_the_global_model_is_fedavg() -> None:
    objective = make_objective(RunConfig.from_flat({"method": "fedprox", "train.proximal": 5.0}))
    model = _linear()
    loss = objective.loss(model, IMAGES, LABELS, copy.deepcopy(model))
    assert float(loss.detach()) == pytest.approx(CROSS_ENTROPY)


def test_fedprox_without_global_model_is_refused() -> None:
    objective = make_objective(RunConfig.from_flat({"method": "fedprox"}))
    with pytest.raises(RunError, match="needs the round's global model"):
        objective.loss(_linear(), IMAGES, LABELS, None)


def test_every_objective_of_the_configuration_is_registered() -> None:
    for name in OBJECTIVES:
        assert make_objective(RunConfig.from_flat({"objective": name}))
    annotation = RunConfig.model_fields["objective"].annotation
    assert set(OBJECTIVES) == set(get_args(annotation)) - {"auto"}
