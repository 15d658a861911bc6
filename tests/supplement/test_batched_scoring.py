from __future__ import annotations

import pytest
import torch

from regl_app.config.sections import ModelConfig
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.build import build_model
from regl_app.supplement import batched_scoring
from regl_app.supplement.batched_scoring import score_models


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
@pytest.mark.parametrize("batched", [False, True, None])
def test_every_way_gives_each_models_own_answers(name: str, batched: bool | None) -> None:
    models = [build_model(ModelConfig(name=name, width=4), 3, 1, 16, seed) for seed in range(3)]
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (7, 1, 16, 16), dtype=torch.uint8, generator=random)
    kept = {key: value.clone() for key, value in models[0].state_dict().items()}
    states = [model.state_dict() for model in models]
    found = score_models(states, models[0], images, "cpu", batched=batched)
    assert found.shape == (3, 7, 3)
    for model, own in zip(models, found, strict=True):
        torch.testing.assert_close(own, predict_log_probs(model, images, "cpu"), atol=1e-4, rtol=0)
    assert all(torch.equal(value, kept[key]) for key, value in models[0].state_dict().items())


def test_models_that_a_card_does_not_hold_together_are_asked_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build_model(ModelConfig(width=4), 3, 1, 16, 0)
    images, states = torch.zeros(5, 1, 16, 16, dtype=torch.uint8), [model.state_dict()] * 2
    expected = score_models(states, model, images, "cpu", batched=False)

    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batched_scoring, "_batched", full)
    assert torch.equal(score_models(states, model, images, "cpu", batched=True), expected)
