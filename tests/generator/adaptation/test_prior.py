"""What an adapter is not to forget: how much the frozen model's images weigh, and their prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation import ruin
from regl_app.generator.adaptation.batches import TuningBatches
from regl_app.generator.adaptation.ruin import Known, strangeness
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


def test_a_prior_is_told_what_it_was_drawn_from(
    foundation: Foundation, real: ImageSet, prior: Pool
) -> None:
    assert prior.rows(foundation).tolist() == [0] * 5 + [1, 3, 1, 3, 1] + [2, 4, 5, 2, 4]
    drawn, seen = batches(foundation, real, prior, 6, 0.25), set[int]()
    for _ in range(20):
        latents, rows, _, places = drawn.draw()
        for latent, row in zip(latents[places < 0], rows[places < 0].tolist(), strict=True):
            (place,) = (i for i, each in enumerate(prior.latents) if torch.equal(each, latent))
            assert row == [2, 4, 5, 2, 4][place - 10]
            seen.add(row)
    assert seen == {2, 4, 5}


def test_what_an_adapter_is_judged_by_is_told_what_it_was_drawn_from(
    foundation: Foundation, real: ImageSet, prior: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known.drawn(foundation, prior)
    assert known.rows.tolist() == [prior.rows(foundation)[i * 15 // 8] for i in range(8)]
    places = [i * 12 // 8 for i in range(8)]
    rows = foundation.prompt_rows.of_set(real.labels)[places]
    assert torch.equal(Known.real(foundation, real, 8).rows, rows) and (rows == 3).any()
    judged: list[torch.Tensor] = []

    def errors(_: Foundation, sets: object, rows: list[torch.Tensor], **__: int) -> list[float]:
        judged.extend(rows)
        return [1.0] * len(rows)

    monkeypatch.setattr(ruin, "_errors", errors)
    strangeness(foundation, SAMPLER, {}, {}, known, exact=True)
    # Eight images, of classes in order, each at its place in the sequence of its class.
    told = [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (2, 6), (2, 7)]
    table = {0: [0], 1: [1, 3], 2: [2, 4, 5]}
    wanted = [table[label][place % len(table[label])] for label, place in told]
    assert [each.tolist() for each in judged] == [wanted, known.rows.tolist(), wanted]
