"""What is PixArt's own: its adapters, which diffusers cannot load, and its conditions of size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import WEIGHTS, most_adapter_bytes, save_adapter
from regl_app.generator.families.pixart import PIXART
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample_latents

LABELS, INDICES = [0, 1, 2, 1], [0, 0, 0, 1]


@pytest.fixture(scope="module")
def folder(pipelines: Callable[[str], Path]) -> Path:
    return pipelines("pixart")


@pytest.fixture(scope="module")
def config(folder: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(folder), steps=3, guidance=2.0, guidance_stop=1.0, precision="fp32"
    )


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, ("a cat", "a dog", "a horse"))


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
