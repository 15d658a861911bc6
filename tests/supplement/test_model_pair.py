from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch

from regl_app.data.images import ImageSet, to_float
from regl_app.supplement.model_pair import ModelPair

CPU = torch.device("cpu")
Make = Callable[..., ModelPair]


def pictures() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8, generator=random)
    return ImageSet(images, torch.tensor([0, 0, 1, 1, 2, 2]))


def test_predictions_are_both_models_own(model_pair: Make) -> None:
    pair, images = model_pair(), pictures()
    predictions = pair.predictions(images)
    for model, found in (
        (pair.global_model, predictions.log_p_global),
        (pair.local_model, predictions.log_p_local),
    ):
        with torch.no_grad():
            expected = model(to_float(images.images)).log_softmax(1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert predictions.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_gap_is_the_predictions_difference_and_leads_back_to_the_image(
    model_pair: Make,
) -> None:
    pair, images = model_pair(), pictures()
    x = to_float(images.images).requires_grad_()
    gap = pair.gap()(x, images.labels)
    of_label = pair.predictions(images).of_label()
    np.testing.assert_allclose(gap.detach().numpy(), of_label[0] - of_label[1], atol=1e-5)
    (gradient,) = torch.autograd.grad(gap.sum(), x)
    assert gradient.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in pair.local_model.parameters())


def test_the_digest_is_of_both_weights_in_their_roles(model_pair: Make) -> None:
    assert model_pair().digest == model_pair().digest
    assert model_pair().digest != model_pair((1, 0)).digest
    changed = copy.deepcopy(model_pair().local_model)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert ModelPair(model_pair().global_model, changed, CPU).digest != model_pair().digest
