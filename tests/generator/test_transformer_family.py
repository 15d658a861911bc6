"""A tiny PixArt-Sigma: a transformer is sampled and tuned by the code that a UNet is."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import save_adapter
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance, log_gap
from regl_app.generator.families import PIXART
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample, sample_latents
from regl_app.learning.models.cnn import SmallCnn

LABELS, INDICES = [0, 1, 2, 1], [0, 0, 0, 1]


def build_pixart(folder: Path) -> Path:
    """Write an untrained PixArt-Sigma of 32 x 32 RGB, latents (4, 8, 8), and return its folder."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = ["▁", *string.ascii_lowercase]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    vocabulary = [*special, *((piece, -float(n)) for n, piece in enumerate(pieces, start=1))]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            cross_attention_dim=16,
            caption_channels=16,
            in_channels=4,
            out_channels=8,
            use_additional_conditions=False,
        )
        with torch.no_grad():  # zero at first, as of a paper: the output would be no function
            for parameter in transformer.proj_out.parameters():
                parameter.normal_(std=0.5)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=0.5,
        )
        text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4
            )
        )
    PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pixart(tmp_path_factory.mktemp("pixart"))


@pytest.fixture(scope="module")
def config(folder: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(folder), steps=3, guidance=2.0, guidance_stop=1.0, precision="fp32"
    )


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, ("a cat", "a dog", "a horse"))


def test_its_images_are_those_of_plain_diffusers(
    foundation: Foundation, config: GeneratorConfig, folder: Path
) -> None:
    from diffusers import PixArtSigmaPipeline

    assert foundation.family is PIXART and foundation.latent_shape == (4, 8, 8)
    pipeline = PixArtSigmaPipeline.from_pretrained(folder)
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
        height=32,
        width=32,
        output_type="pt",
        use_resolution_binning=False,
        clean_caption=False,
    ).images
    images = sample(foundation, LABELS, INDICES, config, stream=7)
    assert images.float().std() > 5
    assert ((expected * 255) - images).abs().max() <= 1.0  # rounding to whole numbers


def test_lora_and_preferences_tune_it(
    foundation: Foundation, config: GeneratorConfig, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    real = ImageSet(images, torch.tensor([0, 0, 1, 1, 2, 2]))
    lora = LoraConfig(layers="all", rank=2, steps=4, batch_size=2)
    latents = sample_latents(foundation, torch.tensor(LABELS), INDICES, config, stream=1)
    adapters = {
        "lora": tune_lora(foundation, real, lora, seed=0).state,
        "dpo": tune_dpo(
            foundation,
            latents,
            torch.tensor(LABELS),
            torch.tensor([[1], [3]]),
            DpoConfig(steps=3, batch_size=1, lr=1e-2),
            lora,
            seed=0,
        ).state,
    }
    frozen = sample(foundation, LABELS, INDICES, config, stream=7)
    for name, state in adapters.items():
        assert all(key.startswith("transformer.") for key in state)
        save_adapter(tmp_path / name, state)
        with foundation.adapter(tmp_path / name):
            adapted = sample(foundation, LABELS, INDICES, config, stream=7)
        assert not torch.equal(adapted, frozen)
    after = foundation.denoiser.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_discrepancy_guidance_steers_it(foundation: Foundation, config: GeneratorConfig) -> None:
    models = [SmallCnn(3, 3, 4) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for model in models:
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            model.eval().requires_grad_(False)
    gap = log_gap(*models)
    shape = (3, 32, 32)
    guide = DiscrepancyGuidance(foundation.noise_process(), gap, shape, 2.0, 0.5)
    plain = sample(foundation, LABELS, INDICES, config, stream=7)
    steered = sample(foundation, LABELS, INDICES, config, stream=7, discrepancy_guidance=guide)

    def mean_gap(images: torch.Tensor) -> float:
        return float(np.mean(gap(images / 127.5 - 1, torch.tensor(LABELS)).numpy()))

    assert mean_gap(steered) > mean_gap(plain)
