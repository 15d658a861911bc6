"""Class weights: scikit-learn's, and what PyTorch makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from regl_app.config import RunConfig
from regl_app.learning.methods import Batch, Local, make_method
from regl_app.learning.methods.class_weights import balanced, weighed_cross_entropy
from regl_app.learning.models import build_model

COUNTS = np.array([30, 9, 0, 1])


def test_the_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat(np.arange(4), COUNTS)
    theirs = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    ours = balanced(COUNTS)
    assert ours[[0, 1, 3]].tolist() == pytest.approx(theirs.tolist())
    assert ours[2] == 1


def test_hard_labels_are_weighed_as_by_pytorch() -> None:
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.arange(20) % 4, balanced(COUNTS)
    theirs = functional.cross_entropy(logits, labels, weight=weights)
    assert torch.allclose(weighed_cross_entropy(logits, labels, weights), theirs)
    soft = functional.one_hot(labels, 4).float()
    assert torch.allclose(weighed_cross_entropy(logits, soft, weights), theirs)


@pytest.mark.parametrize("objective", ["fedavg", "fedprox", "fedrs", "fedntd", "moon", "scaffold"])
def test_every_method_that_takes_them_weighs_by_them(objective: str) -> None:
    found = []
    for weights in ("none", "balanced"):
        config = RunConfig.from_flat(
            {"method": "fedavg", "objective": objective, "train.class-weights": weights}
            | {"model.width": 4}
        )
        model = build_model(config.model, 4, 1, 16, 0)
        images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 3])
        batch = Batch(images, labels, torch.zeros(8, dtype=torch.bool))
        kept = build_model(config.model, 4, 1, 16, 1).state_dict() if objective == "moon" else {}
        method = make_method(config)
        found.append(float(method.loss(model, batch, Local(model, COUNTS, COUNTS, kept)).detach()))
    assert found[0] != found[1]
