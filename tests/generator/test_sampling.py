from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.seeding import torch_generator
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.sampling import sample

CONCEPTS = ("the digit zero", "the digit one")
LABELS, INDICES = [0, 1, 1, 0, 1], [0, 0, 1, 1, 2]


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(path=str(second_pipeline), steps=4, guidance=2.0, guidance_stop=1.0)


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, CONCEPTS)


@pytest.fixture(scope="module")
def images(foundation: Foundation, config: GeneratorConfig) -> torch.Tensor:
    return sample(foundation, LABELS, INDICES, config, stream=7)


def test_images_are_uint8_rgb_at_the_native_size(images: torch.Tensor) -> None:
    assert images.shape == (5, 3, 48, 48)
    assert images.dtype == torch.uint8
    assert images.float().std() > 5


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_an_image_does_not_depend_on_its_batch(
    foundation: Foundation, config: GeneratorConfig, images: torch.Tensor, batch_size: int
) -> None:
    smaller = config.model_copy(update={"batch_size": batch_size})
    again = sample(foundation, LABELS, INDICES, smaller, stream=7)
    assert (again.int() - images.int()).abs().max() <= 2  # rounding of the batched arithmetic
    alone = sample(foundation, [1], [2], config, stream=7)
    assert (alone[0].int() - images[4].int()).abs().max() <= 2


def test_class_index_and_stream_each_matter(
    foundation: Foundation, config: GeneratorConfig, images: torch.Tensor
) -> None:
    other = sample(foundation, LABELS, INDICES, config, stream=8)
    differences = (images.int() - other.int()).abs().float().mean((1, 2, 3))
    assert (differences > 3).all()
    flat = images.float().flatten(1)
    assert (torch.cdist(flat, flat) + 1e6 * torch.eye(5)).min() > 100


def test_equals_plain_diffusers(
    foundation: Foundation, config: GeneratorConfig, second_pipeline: Path, images: torch.Tensor
) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(second_pipeline)
    pipeline.set_progress_bar_config(disable=True)
    noise = [
        torch.randn(foundation.latent_shape, generator=torch_generator(7, label, index))
        for label, index in zip(LABELS, INDICES, strict=True)
    ]
    expected = pipeline(
        [foundation.prompts[label] for label in LABELS],
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        latents=torch.stack(noise),
        output_type="pt",
    ).images
    assert ((expected * 255) - images).abs().mean() < 2  # bf16 against fp32


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_guidance_changes_the_images(
    foundation: Foundation, config: GeneratorConfig, images: torch.Tensor, guidance: float
) -> None:
    other = config.model_copy(update={"guidance": guidance})
    assert not torch.equal(sample(foundation, LABELS, INDICES, other, stream=7), images)


@pytest.mark.parametrize(("stop", "rows"), [(0.0, 4), (0.5, 6), (0.6, 7), (1.0, 8)])
def test_only_the_first_steps_pay_for_guidance(
    foundation: Foundation,
    config: GeneratorConfig,
    monkeypatch: pytest.MonkeyPatch,
    stop: float,
    rows: int,
) -> None:
    asked = []
    predict = Foundation.predict

    def spy(self: Foundation, latents: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        asked.append(len(latents))
        return predict(self, latents, *rest)

    monkeypatch.setattr(Foundation, "predict", spy)
    chosen = config.model_copy(update={"guidance_stop": stop})
    made = sample(foundation, [1], [0], chosen, stream=7)
    assert sum(asked) == rows
    off = config.model_copy(update={"guidance": 1.0})
    assert torch.equal(made, sample(foundation, [1], [0], off, stream=7)) == (stop == 0)


def test_less_noise_stays_closer_to_the_real_picture(
    foundation: Foundation, config: GeneratorConfig
) -> None:
    real = torch.randint(0, 256, (5, 1, 20, 20), dtype=torch.uint8)
    starts = encode_latents(foundation, real)
    with torch.no_grad():
        target = foundation.decode(starts).add(1).mul(127.5)

    def distance(strength: float) -> float:
        chosen = config.model_copy(update={"image_strength": strength, "steps": 10})
        made = sample(foundation, LABELS, INDICES, chosen, stream=7, starts=starts)
        return float((made.float() - target).abs().mean())

    assert distance(0.1) < distance(0.9)


@pytest.mark.parametrize(
    "scheduler",
    [
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "DDPMScheduler",
        "PNDMScheduler",
    ],
)
def test_any_scheduler_with_and_without_pictures(
    foundation: Foundation, config: GeneratorConfig, scheduler: str
) -> None:
    from dataclasses import replace

    import diffusers

    kind = getattr(diffusers, scheduler)
    other = replace(foundation, scheduler=kind.from_config(foundation.scheduler.config))
    starts = encode_latents(foundation, torch.full((2, 3, 48, 48), 200, dtype=torch.uint8))
    one_by_one = config.model_copy(update={"batch_size": 1})
    for start in (None, starts):
        together = sample(other, [0, 1], [0, 0], config, stream=1, starts=start)
        apart = sample(other, [0, 1], [0, 0], one_by_one, stream=1, starts=start)
        assert (together.int() - apart.int()).abs().max() <= 3


def test_progress_counts_images(foundation: Foundation, config: GeneratorConfig) -> None:
    seen: list[tuple[int, int]] = []
    smaller = config.model_copy(update={"batch_size": 2, "steps": 1})
    sample(foundation, LABELS, INDICES, smaller, stream=0, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_no_images_wanted(foundation: Foundation, config: GeneratorConfig) -> None:
    assert sample(foundation, [], [], config, stream=0).shape == (0, 3, 48, 48)
