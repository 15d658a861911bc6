from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.cache import METADATA, AdapterCache
from regl_app.generator.adaptation.lora import TunedAdapter, tune_lora
from regl_app.generator.adapters import (
    WEIGHTS,
    load_adapter,
    most_adapter_bytes,
    save_adapter,
)
from regl_app.generator.foundation import Foundation
from regl_app.generator.noise_schedule import DiffusionProcess
from regl_app.generator.pool import sample_pool
from regl_app.generator.sampling import sample, sample_latents

CONCEPTS = ("the digit zero", "the digit one", "the digit two")
CONFIG = LoraConfig(layers="all", rank=4, alpha=8.0, steps=12, batch_size=4, lr=5e-3)


@pytest.fixture(scope="module")
def generator_config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(second_pipeline), steps=3, guidance=2.0, guidance_stop=1.0, guide="adapted"
    )


@pytest.fixture(scope="module")
def foundation(generator_config: GeneratorConfig) -> Foundation:
    return Foundation.load(generator_config, CONCEPTS)


@pytest.fixture(scope="module")
def real() -> ImageSet:
    images = torch.full((12, 1, 32, 32), 20, dtype=torch.uint8)
    images[:, :, 8:24, 8:24] = 220
    return ImageSet(images, torch.arange(12) % 2)


@pytest.fixture(scope="module")
def tuned(foundation: Foundation, real: ImageSet) -> TunedAdapter:
    return tune_lora(foundation, real, CONFIG, seed=1)


def pictures(foundation: Foundation, config: GeneratorConfig) -> torch.Tensor:
    return sample(foundation, [0, 1, 2], [0, 0, 0], config, stream=3)


def test_tuning_leaves_the_foundation_bit_for_bit_the_same(
    foundation: Foundation, generator_config: GeneratorConfig, real: ImageSet, tmp_path: Path
) -> None:
    weights = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    before = pictures(foundation, generator_config)
    state = torch.get_rng_state()
    tuned = tune_lora(foundation, real, CONFIG, seed=2)
    assert torch.equal(torch.get_rng_state(), state)  # no global randomness was used
    save_adapter(tmp_path / "adapter", tuned.state)
    with foundation.adapter(tmp_path / "adapter"):
        inside = pictures(foundation, generator_config)
    after = foundation.denoiser.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert torch.equal(pictures(foundation, generator_config), before)
    assert not torch.equal(inside, before)


def test_weights_return_when_the_turn_fails(
    foundation: Foundation, tuned: TunedAdapter, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    save_adapter(tmp_path / "adapter", tuned.state)
    with pytest.raises(RuntimeError, match="mid-turn"), foundation.adapter(tmp_path / "adapter"):
        raise RuntimeError("mid-turn")
    assert all(torch.equal(foundation.denoiser.state_dict()[n], v) for n, v in before.items())


def test_plain_diffusers_reads_the_adapter(
    foundation: Foundation,
    generator_config: GeneratorConfig,
    tuned: TunedAdapter,
    second_pipeline: Path,
    tmp_path: Path,
) -> None:
    from diffusers import StableDiffusionPipeline

    folder = tmp_path / "adapter"
    save_adapter(folder, tuned.state)
    pipeline = StableDiffusionPipeline.from_pretrained(second_pipeline)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(folder)
    noise = [
        torch.randn(foundation.latent_shape, generator=torch_generator(3, c, 0)) for c in range(3)
    ]
    expected = (
        pipeline(
            list(foundation.prompts),
            num_inference_steps=generator_config.steps,
            guidance_scale=generator_config.guidance,
            latents=torch.stack(noise),
            output_type="pt",
        ).images
        * 255
    )
    exact = replace(foundation, precision="fp32")
    frozen = pictures(exact, generator_config)
    with exact.adapter(folder):
        ours = pictures(exact, generator_config)
    assert (ours - expected).abs().max() <= 1  # rounding to uint8
    assert (frozen - expected).abs().mean() > 1


def test_the_frozen_model_guides_the_adapted_one(
    foundation: Foundation,
    generator_config: GeneratorConfig,
    tuned: TunedAdapter,
    tmp_path: Path,
) -> None:
    from diffusers import EulerDiscreteScheduler

    # One Euler step from noise is affine in the prediction, so the decoder's input shows it.
    once = replace(
        foundation,
        precision="fp32",
        scheduler=EulerDiscreteScheduler.from_config(foundation.scheduler.config),
    )
    config = generator_config.model_copy(update={"steps": 1, "guidance": 30.0})

    def latents(**change: object) -> torch.Tensor:
        chosen = config.model_copy(update=change)
        return sample_latents(once, [0, 1, 2], [0, 0, 0], chosen, stream=3)

    save_adapter(tmp_path / "adapter", tuned.state)
    frozen, frozen_unguided = latents(guide="frozen"), latents(guidance=1.0)
    with once.adapter(tmp_path / "adapter"):
        own, mixed, adapted = latents(guidance=1.0), latents(guide="frozen"), latents()
    direction = frozen - frozen_unguided  # 29 * (eps(class) - eps(empty))
    torch.testing.assert_close(mixed, own + direction, atol=1e-4, rtol=1e-4)
    assert (mixed - adapted).abs().max() > 1e-2
    assert (mixed - frozen).abs().max() > 1e-2
    assert not once.adapters.filled


def test_one_adapter_at_a_time(foundation: Foundation, tuned: TunedAdapter, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", tuned.state)
    with (
        foundation.adapter(tmp_path / "adapter"),
        pytest.raises(GeneratorError, match="already"),
        foundation.adapter(tmp_path / "adapter"),
    ):
        pass


def test_tuning_is_deterministic_and_seeded(
    foundation: Foundation, real: ImageSet, tuned: TunedAdapter
) -> None:
    again = tune_lora(foundation, real, CONFIG, seed=1)
    assert again.loss == tuned.loss
    assert all(torch.equal(again.state[name], value) for name, value in tuned.state.items())
    other = tune_lora(foundation, real, CONFIG, seed=2)
    assert any(not torch.equal(other.state[name], value) for name, value in tuned.state.items())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_tuning_lowers_the_loss_of_every_prediction_type(
    foundation: Foundation, real: ImageSet, prediction: str
) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False)
    model = replace(foundation, scheduler=scheduler)
    long = CONFIG.model_copy(update={"steps": 40, "lr": 2e-2})
    idle = CONFIG.model_copy(update={"steps": 20, "lr": 1e-9})
    learned = tune_lora(model, real, long, seed=0).loss
    assert learned < 0.97 * tune_lora(model, real, idle, seed=0).loss


def test_min_snr_weights_are_those_of_the_paper() -> None:
    abar = torch.tensor([0.99, 0.5, 0.1, 0.0])
    snr = abar / (1 - abar)
    steps = torch.arange(4)
    clipped = snr.clamp(max=5)
    assert torch.allclose(DiffusionProcess(abar, "sample", 5.0).weights(steps), clipped)
    assert torch.allclose(
        DiffusionProcess(abar, "v_prediction", 5.0).weights(steps), clipped / (snr + 1)
    )
    expected = torch.tensor([5 / 99, 1.0, 1.0, 1.0])
    assert torch.allclose(DiffusionProcess(abar, "epsilon", 5.0).weights(steps), expected)
    assert DiffusionProcess(abar, "epsilon", 0.0).weights(steps).tolist() == [1, 1, 1, 1]


def test_v_target_is_the_paper_s() -> None:
    process = DiffusionProcess(torch.tensor([0.36]), "v_prediction", 0.0)
    x, eps = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0)
    level = process.level(torch.tensor(0))
    assert process.target(x, eps, level).item() == pytest.approx(0.6 * 2 - 0.8 * 1)


def test_prior_preservation_keeps_the_lacking_class_closer_to_the_frozen_model(
    foundation: Foundation, generator_config: GeneratorConfig, real: ImageSet, tmp_path: Path
) -> None:
    prior = sample_pool(
        foundation, generator_config, real.shape, stream=7, per_class=4, path=tmp_path / "pool"
    )
    frozen = pictures(foundation, generator_config)[2].float()
    distances = []
    for weight in (0.0, 5.0):
        config = CONFIG.model_copy(update={"prior_weight": weight, "steps": 25})
        tuned = tune_lora(foundation, real, config, seed=0, prior=prior)
        save_adapter(tmp_path / str(weight), tuned.state)
        with foundation.adapter(tmp_path / str(weight)):
            distances.append(
                (pictures(foundation, generator_config)[2].float() - frozen).abs().mean()
            )
    assert distances[1] < distances[0]


def test_no_image_is_refused(foundation: Foundation) -> None:
    with pytest.raises(GeneratorError, match="at least one real image"):
        tune_lora(foundation, ImageSet.empty((1, 32, 32)), CONFIG, seed=0)


def test_an_adapter_of_another_model_is_refused(
    foundation: Foundation, tuned: TunedAdapter, tmp_path: Path
) -> None:
    renamed = {
        name.replace("unet.", "unet.elsewhere."): value for name, value in tuned.state.items()
    }
    save_adapter(tmp_path / "renamed", renamed)
    with (
        pytest.raises(GeneratorError, match="does not fit"),
        foundation.adapter(tmp_path / "renamed"),
    ):
        pass
    name = next(name for name in tuned.state if name.endswith("to_q.lora_A.weight"))
    wide = torch.cat([tuned.state[name]] * 2, dim=1)
    save_adapter(tmp_path / "wide", tuned.state | {name: wide})
    with (
        pytest.raises(GeneratorError, match="to_q' has shape"),
        foundation.adapter(tmp_path / "wide"),
    ):
        pass


def test_cache_returns_what_it_stored_and_drops_what_is_damaged(
    tuned: TunedAdapter, tmp_path: Path
) -> None:
    cache, key = AdapterCache(tmp_path), {"generator": "g", "seed": 1}
    assert cache.get(key) is None
    stored = cache.put(key, tuned)
    assert cache.get(key) == replace(stored, seconds=round(stored.seconds, 3))
    assert load_adapter(stored.path).keys() == tuned.state.keys()
    assert cache.get({"generator": "g", "seed": 2}) is None
    weights = stored.path / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert cache.get(key) is None
    cache.put(key, tuned)
    assert cache.get(key) is not None
    (stored.path / METADATA).write_text(json.dumps({"sha256": "none"}))
    assert cache.get(key) is None


def test_the_size_limit_is_above_any_adapter_of_that_rank_and_of_its_order(
    tuned: TunedAdapter, second_pipeline: Path, tmp_path: Path
) -> None:
    save_adapter(tmp_path / "adapter", tuned.state)
    size = (tmp_path / "adapter" / WEIGHTS).stat().st_size
    assert size < most_adapter_bytes(second_pipeline, CONFIG.rank) < 2 * size + 2**21
    with pytest.raises(GeneratorError, match="has no safetensors"):
        most_adapter_bytes(tmp_path, CONFIG.rank)
