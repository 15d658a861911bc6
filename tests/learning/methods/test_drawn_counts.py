"""Who corrects for label skew counts images as steps draw them, under ``train.real-share``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.learning.methods import Batch, Local, Method, make_method
from regl_app.learning.methods.class_weights import balanced
from regl_app.learning.models.build import build_model
from regl_app.learning.training.loop import train_local

EVERY, REAL = np.array([3, 5, 8, 0]), np.array([3, 1, 0, 0])
DRAWN = np.array([6.0, 14 / 3, 16 / 3, 0.0])

CORRECTING: list[dict[str, Scalar]] = [
    {"objective": "fedlc"},
    {"objective": "balanced-softmax"},
    {"objective": "fedavg", "train.class-weights": "balanced"},
]


def config(**keys: Scalar) -> RunConfig:
    return RunConfig.from_flat({"method": "fedavg", "model.width": 4, **keys})


@pytest.mark.parametrize("keys", CORRECTING, ids=lambda keys: str(next(iter(keys.values()))))
def test_drawn_counts_are_what_corrects(keys: dict[str, Scalar]) -> None:
    model = build_model(config().model, 4, 1, 16, 0)
    method = make_method(config(**keys))
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, torch.tensor([0, 0, 1, 2, 2, 2]), torch.zeros(6, dtype=torch.bool))

    def loss(local: Local) -> float:
        return float(method.loss(model, batch, local).detach())

    as_drawn = loss(Local(model, EVERY, REAL, drawn_counts=DRAWN))
    assert as_drawn == loss(Local(model, np.zeros(4), REAL, drawn_counts=DRAWN))
    assert as_drawn != loss(Local(model, EVERY, REAL))


def test_weights_of_few_drawn_images_are_not_cut_at_one() -> None:
    assert balanced(np.array([0.5, 1.5, 0.0])).tolist() == pytest.approx([2.0, 2 / 3, 1.0])


def test_a_class_that_is_seldom_drawn_is_not_absent() -> None:
    model = build_model(config().model, 4, 1, 16, 0)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    losses = []
    for drawn in (None, np.array([3.0, 5.0, 0.1, 0.0])):
        local = Local(model, EVERY, REAL, drawn_counts=drawn)
        loss = make_method(config(objective="fedrs")).loss(model, batch, local)
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("share", "wanted"), [(0.5, DRAWN), (0.0, EVERY)])
def test_training_tells_them(share: float, wanted: np.ndarray) -> None:
    seen: list[Local] = []

    class Watching(Method):
        def after_backward(self, model: torch.nn.Module, local: Local) -> None:
            seen.append(local)

    train = config(**{"train.real-share": share, "train.batch-size": 8, "train.steps": 1}).train
    labels = torch.tensor([0, 0, 0, 1, *[1] * 4, *[2] * 8])
    data = ImageSet(torch.zeros(16, 1, 16, 16, dtype=torch.uint8), labels)
    model = build_model(config().model, 4, 1, 16, 0)
    train_local(model, data, train, seed=0, device="cpu", method=Watching(train), real_images=4)
    np.testing.assert_allclose(seen[0].step_counts, wanted)
    assert (seen[0].drawn_counts is None) == (share == 0)
