"""A run's model looks at a large set in portions, of whatever form the images are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.data.images import ImageSet
from regl_app.data.pictures import Chosen
from regl_app.data.resize import fit
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.build import build_model
from regl_app.runs.trained.model import TrainedModel


@dataclass(eq=False)
class Stored:
    """Pictures as those of a file: remembers how many were asked for at once."""

    pixels: torch.Tensor
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> Sequence[int]:
        return self.pixels.shape

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        part = self.pixels[chosen]
        self.asked.append(len(part))
        return part


@pytest.mark.parametrize("form", [(1, 12, 12), (3, 12, 12), (3, 16, 16), (1, 5, 7)])
@pytest.mark.parametrize("count", [0, 1203])
def test_images_are_taken_to_the_models_form_in_portions(
    form: tuple[int, int, int], count: int
) -> None:
    config = RunConfig.from_flat({"data.image-size": 12})
    model = build_model(config.model, 4, 1, 12, 0).eval()
    trained = TrainedModel(model, tuple("abcd"), 1, 12, config, 2)
    pixels = torch.randint(0, 256, (count, *form), dtype=torch.uint8)
    images = ImageSet(Stored(pixels), torch.zeros(count, dtype=torch.int64))
    expected = predict_log_probs(model, fit(pixels, (1, 12, 12)), "cpu")
    assert torch.equal(trained.log_probs(images), expected)
    assert isinstance(images.pixels, Stored) and max(images.pixels.asked, default=0) <= 500
