"""Of a client's large pictures only those that are drawn are encoded; the batches are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation import batches
from regl_app.generator.adaptation.batches import TuningBatches
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import sample_pool

CONCEPTS = ("a cat", "a dog", "a horse")
CONFIG = LoraConfig(layers="attention", rank=2, steps=3, batch_size=2, lr=1e-3)


def load(pipeline: Path, side: int) -> Foundation:
    config = GeneratorConfig(path=str(pipeline), precision="fp32", image_size=side, steps=2)
    return Foundation.load(config, CONCEPTS)


@pytest.fixture(scope="module")
def large(second_pipeline: Path) -> Foundation:
    return load(second_pipeline, 96)


@pytest.fixture(scope="module")
def real() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (30, 3, 24, 24), generator=random, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(30) % 2)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what becomes the numbers of pictures that go through the VAE."""
    encode, seen = Foundation.encode, list[int]()

    def counted(self: Foundation, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Foundation, "encode", counted)
    return seen


def test_large_pictures_that_no_step_draws_are_not_encoded(
    large: Foundation, real: ImageSet, encoded: list[int]
) -> None:
    tune_lora(large, real, CONFIG, seed=0)
    assert sum(encoded) == CONFIG.steps * CONFIG.batch_size
    encoded.clear()
    tune_lora(large, real.subset(range(4)), CONFIG, seed=0)
    assert sum(encoded) == 4


def test_small_ones_are_and_so_are_those_that_image_tokens_look_at(
    second_pipeline: Path, large: Foundation, real: ImageSet, encoded: list[int]
) -> None:
    tune_lora(load(second_pipeline, 48), real, CONFIG, seed=0)
    assert sum(encoded) == len(real)
    tune_lora(large, real, CONFIG.model_copy(update={"image_tokens": 1}), seed=0)
    assert sum(encoded) == 2 * len(real)


@pytest.mark.parametrize("with_prior", [False, True])
def test_batches_are_those_of_all_pictures(
    large: Foundation, real: ImageSet, with_prior: bool, tmp_path: Path
) -> None:
    config = GeneratorConfig(steps=2, guidance=1.0, batch_size=4)
    preserved, prior = CONFIG.model_copy(update={"prior_weight": 0.5}), None
    if with_prior:
        prior = sample_pool(
            large, config, (3, 24, 24), per_class=2, stream=1, path=tmp_path / "pool"
        )
    few, every = (
        TuningBatches(large, real, preserved, prior, 5, 1, None, every=every)
        for every in (False, True)
    )
    assert len(few.latents) < len(every.latents) == len(real)
    for _ in range(CONFIG.steps):
        one, other = few.draw(), every.draw()
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        latents, rows, weights, places = one
        own = places >= 0
        assert own.sum() == CONFIG.batch_size and (~own).sum() == with_prior
        assert torch.equal(latents[own], every.latents[places[own]])
        assert torch.equal(rows[own], large.prompt_rows.of_set(real.labels)[places[own]])
        assert (rows[~own] == 2).all() and (weights[own] == 1 + with_prior / 2).all()


def test_latents_of_large_pictures_wait_in_the_processor_s_memory(
    large: Foundation, real: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.device | None] = []

    def kept(*_: object, kept: torch.device | None = None) -> torch.Tensor:
        seen.append(kept)
        return torch.zeros(30, *large.latent_shape)

    monkeypatch.setattr(batches, "encode_latents", kept)
    for side in (96, 64):
        meta = torch.device("meta")
        elsewhere = replace(large, device=meta, image_size=side)
        TuningBatches(elsewhere, real, CONFIG, None, 0, 1, None)
    assert seen == [torch.device("cpu"), meta]
