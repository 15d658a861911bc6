from __future__ import annotations

import copy

import numpy as np
import torch

from regl_app.config.sections import ModelConfig
from regl_app.data.images import ImageSet, to_float
from regl_app.learning.models.build import build_model
from regl_app.supplement.model_pair import ModelPair

CPU = torch.device("cpu")


def judges(seeds: tuple[int, int] = (0, 1)) -> ModelPair:
    models = [build_model(ModelConfig(width=4), 3, 1, 16, seed) for seed in seeds]
    return ModelPair(models[0], models[1], CPU)


def pictures() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8, generator=random)
    return ImageSet(images, torch.tensor([0, 0, 1, 1, 2, 2]))


def test_opinions_are_both_models_own() -> None:
    pair, images = judges(), pictures()
    predictions = pair.predictions(images)
    for model, found in (
        (pair.global_model, predictions.log_p_global),
        (pair.local_model, predictions.log_p_local),
    ):
        with torch.no_grad():
            expected = model(to_float(images.images)).log_softmax(1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert predictions.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_gap_is_the_opinions_difference_and_leads_back_to_the_image() -> None:
    pair, images = judges(), pictures()
    x = to_float(images.images).requires_grad_()
    gap = pair.gap()(x, images.labels)
    in_words = pair.predictions(images).of_label()
    np.testing.assert_allclose(gap.detach().numpy(), in_words[0] - in_words[1], atol=1e-5)
    (gradient,) = torch.autograd.grad(gap.sum(), x)
    assert gradient.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in pair.local_model.parameters())


def test_the_digest_is_of_both_weights_in_their_roles() -> None:
    assert judges().digest == judges().digest
    assert judges().digest != judges((1, 0)).digest
    changed = copy.deepcopy(judges().local_model)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert ModelPair(judges().global_model, changed, CPU).digest != judges().digest
