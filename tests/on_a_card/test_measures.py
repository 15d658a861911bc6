"""What is measured of models and images on a pretended card is the processor's."""

from __future__ import annotations

import pytest
import torch

from regl_app.config.sections import ModelConfig
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.build import build_model
from regl_app.supplement.batched_scoring import score_models


@pytest.mark.parametrize("batched", [False, None])
def test_models_that_lie_here_and_there_are_scored(
    card: torch.device, batched: bool | None
) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (7, 1, 16, 16), dtype=torch.uint8, generator=random)
    models = [build_model(ModelConfig(width=4), 3, 1, 16, seed) for seed in range(3)]
    expected = [predict_log_probs(model, images, "cpu") for model in models]
    models[1].to(card)
    states = [model.state_dict() for model in models]
    found = score_models(states, models[0], images, card, batched=batched)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)
