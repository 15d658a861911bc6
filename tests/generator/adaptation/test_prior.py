"""What an adapter is not to forget: how much the frozen model's images weigh, and their prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.batches import TuningBatches
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import Pool, sample_pool

SAMPLER = GeneratorConfig(steps=1, guidance=1.0, batch_size=8)
# The last class is lacking; drawn are its three phrasings in turn.
CONCEPTS = ("a cat", ("a dog", "a puppy"), ("a horse", "a mare", "a foal"))


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = GeneratorConfig(path=str(second_pipeline), precision="fp32", image_size=48)
    return Foundation.load(config, CONCEPTS)


@pytest.fixture(scope="module")
def real() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, 24, 24), generator=random, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(12) % 2)


@pytest.fixture(scope="module")
def prior(foundation: Foundation, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path = tmp_path_factory.mktemp("pool") / "pool"
    return sample_pool(foundation, SAMPLER, (3, 24, 24), per_class=5, stream=1, path=path)


def batches(
    foundation: Foundation, real: ImageSet, prior: Pool | None, size: int, weight: float
) -> TuningBatches:
    config = LoraConfig(rank=2, steps=20, batch_size=size, prior_weight=weight)
    return TuningBatches(foundation, real, config, prior, 5, 8, None)


@pytest.mark.parametrize("size", [1, 2, 6, 7])
def test_the_loss_is_the_own_mean_and_the_weighed_mean_of_the_prior(
    foundation: Foundation, real: ImageSet, prior: Pool, size: int
) -> None:
    _, _, weights, places = batches(foundation, real, prior, size, 0.25).draw()
    own = places >= 0
    assert own.sum() == size and (~own).sum() == max(size // 2, 1)
    errors = torch.rand(len(places), generator=torch.Generator().manual_seed(2)) + 0.5
    wanted = errors[own].mean() + 0.25 * errors[~own].mean()
    torch.testing.assert_close((errors * weights).mean(), wanted)


def test_without_a_prior_every_image_weighs_one(foundation: Foundation, real: ImageSet) -> None:
    weights = batches(foundation, real, None, 6, 0.25).draw()[2]
    assert torch.equal(weights, torch.ones(6))
