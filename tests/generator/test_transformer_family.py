"""A tiny PixArt-Sigma: a transformer is sampled and tuned by the code that a UNet is."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import WEIGHTS, most_adapter_bytes, save_adapter
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance, log_gap
from regl_app.generator.families.pixart import PIXART
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


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("attention", {"to_q", "to_k", "to_v", "0"}),
        ("convolution", {"proj", "2", "proj_out"}),
        ("all", {"to_q", "to_k", "to_v", "0", "proj", "2", "proj_out"}),
    ],
)
def test_each_choice_of_layers_means_some(
    foundation: Foundation, choice: str, names: set[str]
) -> None:
    layers = PIXART.adapted_layers(foundation.denoiser, choice)
    assert {layer.rpartition(".")[2] for layer in layers} == names


def adapter(foundation: Foundation, folder: Path) -> Path:
    """Write an adapter of all layers, large enough to be seen, and return its folder."""
    real = ImageSet(torch.full((3, 3, 32, 32), 40, dtype=torch.uint8), torch.arange(3))
    lora = LoraConfig(layers="all", rank=2, alpha=4.0, steps=5, batch_size=3, lr=2e-2)
    save_adapter(folder, tune_lora(foundation, real, lora, seed=0).state)
    return folder


def test_peft_reads_the_adapter(foundation: Foundation, folder: Path, tmp_path: Path) -> None:
    # PixArt's pipelines have no load_lora_weights; what there is, is PEFT.
    from diffusers import PixArtTransformer2DModel
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    stored = load_file(adapter(foundation, tmp_path / "a") / WEIGHTS)
    layers = PIXART.adapted_layers(foundation.denoiser, "all")
    model = PixArtTransformer2DModel.from_pretrained(folder, subfolder="transformer")
    inject_adapter_in_model(PeftConfig(r=2, lora_alpha=2, target_modules=layers), model)
    state = {key.removeprefix("transformer."): value for key, value in stored.items()}
    assert not set_peft_model_state_dict(model, state).unexpected_keys
    latents = torch.randn((3, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))
    time, rows = torch.tensor([10, 400, 900]), torch.arange(3)
    with torch.no_grad():
        expected = PIXART.predict(model, latents, time, foundation.text.of(rows))
        frozen = foundation.predict(latents, time, rows)
        with foundation.adapter(tmp_path / "a"):
            found = foundation.predict(latents, time, rows)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - frozen).abs().max() > 1e-2


def test_the_adapter_of_another_part_is_refused(
    foundation: Foundation, second_pipeline: Path, tmp_path: Path
) -> None:
    other = Foundation.load(GeneratorConfig(path=str(second_pipeline)), ("a cat", "a dog"))
    with (
        pytest.raises(GeneratorError, match="it adapts a transformer, this generator has a unet"),
        other.adapter(adapter(foundation, tmp_path / "a")),
    ):
        pass


def test_the_size_limit_counts_the_transformer(
    foundation: Foundation, folder: Path, tmp_path: Path
) -> None:
    size = (adapter(foundation, tmp_path / "a") / WEIGHTS).stat().st_size
    assert size < most_adapter_bytes(folder, 2) < 2 * size + 2**21


def test_the_model_of_1024_pixels_is_told_its_resolution(
    config: GeneratorConfig, folder: Path, tmp_path: Path
) -> None:
    # PixArt-Alpha's large model: sizes are conditions beside the prompt.
    from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel

    small = PixArtSigmaPipeline.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        # The pipeline goes by the size.
        changes = {"sample_size": 128, "use_additional_conditions": True}
        changes |= {"attention_head_dim": 6, "num_attention_heads": 4, "cross_attention_dim": 24}
        transformer = PixArtTransformer2DModel.from_config(small.transformer.config, **changes)
        with torch.no_grad():
            for parameter in transformer.proj_out.parameters():
                parameter.normal_(std=0.5)
    parts = {**small.components, "transformer": transformer}
    PixArtAlphaPipeline(**parts).save_pretrained(tmp_path)
    config = config.model_copy(update={"path": str(tmp_path), "image_size": 32})
    foundation = Foundation.load(config, ("a cat", "a dog", "a horse"))
    assert foundation.text.of(torch.tensor([0]))["resolution"].tolist() == [[32.0, 32.0]]
    noise = [
        torch.randn(foundation.latent_shape, generator=torch_generator(7, label, 0))
        for label in range(3)
    ]
    pipeline = PixArtAlphaPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        list(foundation.prompts),
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        latents=torch.stack(noise),
        height=32,
        width=32,
        output_type="latent",
        use_resolution_binning=False,
        clean_caption=False,
    ).images
    found = sample_latents(foundation, range(3), [0] * 3, config, stream=7)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_denoiser_of_no_known_family_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regl_app.generator.families.registry.FAMILIES", {})
    with pytest.raises(GeneratorError, match=r"is a PixArtSigmaPipeline, whose denoiser is not"):
        Foundation.load(GeneratorConfig(path=str(folder)), ("a cat", "a dog"))
