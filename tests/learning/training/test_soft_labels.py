"""Soft labels of synthetic images: the ramp, the mixture, and what training makes of them."""

from __future__ import annotations

import math

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.config.teaching_sections import LabelsConfig
from regl_app.data.images import ImageSet, to_float
from regl_app.learning.models import Classifier, build_model
from regl_app.learning.training import loop
from regl_app.learning.training.loop import train_local
from regl_app.learning.training.soft_labels import opinion_share, soft_labels


def test_the_first_round_is_hard_and_late_ones_believe_the_model() -> None:
    keys = LabelsConfig(share=0.8, rounds=2.0)
    assert opinion_share(keys, 1) == 0
    assert opinion_share(keys, 3) == pytest.approx(0.8 * (1 - math.exp(-1)))
    assert opinion_share(keys, 200) == pytest.approx(0.8)
    assert opinion_share(LabelsConfig(share=0.0), 9) == 0


def test_a_label_is_part_prompt_and_part_opinion() -> None:
    opinion = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    found = soft_labels(torch.tensor([1, 2]), opinion, 0.25)
    expected = torch.tensor([[0.05, 0.875, 0.075], [0.25, 0.0, 0.75]])
    torch.testing.assert_close(found, expected)


@pytest.fixture(autouse=True)
def _fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold training against formulas, also on a machine that trains in bf16."""
    monkeypatch.setattr(loop, "trains_fast_in_bf16", lambda device: False)


@pytest.fixture
def data() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.tensor([0, 1, 2, 0, 1, 2]))


def trained(
    data: ImageSet, targets: torch.Tensor | None, steps: int = 1
) -> tuple[Classifier, float]:
    model = build_model(RunConfig.from_flat({"model.width": 4}).model, 3, 1, 16, 0)
    keys = TrainConfig(steps=steps, batch_size=6)
    result = train_local(model, data, keys, seed=0, device="cpu", real_images=2, targets=targets)
    return model, result.loss


def test_real_images_keep_their_labels_and_synthetic_ones_get_the_targets(data: ImageSet) -> None:
    targets = torch.full((4, 3), 1 / 3)
    untrained = build_model(RunConfig.from_flat({"model.width": 4}).model, 3, 1, 16, 0)
    with torch.no_grad():
        log_probs = untrained(to_float(data.images)).log_softmax(dim=1)
    by_hand = -(log_probs[0, 0] + log_probs[1, 1] + log_probs[2:].mean(dim=1).sum()) / 6
    _, loss = trained(data, targets)
    assert loss == pytest.approx(float(by_hand), rel=1e-5)


def test_certain_targets_train_as_hard_labels_do(data: ImageSet) -> None:
    certain = torch.nn.functional.one_hot(data.labels[2:], 3).float()
    soft, hard = trained(data, certain, 3), trained(data, None, 3)
    assert soft[1] == pytest.approx(hard[1], rel=1e-5)
    for one, other in zip(soft[0].parameters(), hard[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
