"""What is not finite is told apart by whose fault it is, and never stored or trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import save_adapter
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.pool import load_pool, sample_pool
from regl_app.generator.sampling import sample, sample_latents
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.synthesizer import Synthesizer

CONCEPTS = ("the digit zero", "the digit one")
IMAGES = torch.full((4, 3, 48, 48), 90, dtype=torch.uint8)
REAL = ImageSet(IMAGES, torch.tensor([0, 0, 1, 1]))


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(path=str(second_pipeline), steps=2, guidance=1.0, precision="bf16")


@pytest.fixture(scope="module")
def sound(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, CONCEPTS)


def poisoned(foundation: Foundation, part: str, layer: str, value: float) -> Foundation:
    """Return a copy whose ``part`` ('vae' or 'denoiser') has ``value`` in a layer's bias."""
    module = copy.deepcopy(getattr(foundation, part))
    with torch.no_grad():
        module.get_submodule(layer).bias[0] = value
    parts: dict[str, Any] = {part: module}
    return replace(foundation, **parts)


@pytest.fixture
def decoder_overflows(sound: Foundation) -> Foundation:
    return poisoned(sound, "vae", "decoder.conv_out", float("inf"))


@pytest.fixture
def encoder_overflows(sound: Foundation) -> Foundation:
    return poisoned(sound, "vae", "encoder.conv_in", float("nan"))


@pytest.fixture
def denoiser_overflows(sound: Foundation) -> Foundation:
    return poisoned(sound, "denoiser", "conv_out", float("nan"))


def test_decoding_blames_the_vae_s_precision(
    decoder_overflows: Foundation, config: GeneratorConfig, tmp_path: Path
) -> None:
    told = (
        r"VAE decodes 2 of 2 latents to NaN or infinity in bf16 \(set generator.precision=fp32\)$"
    )
    with pytest.raises(GeneratorError, match=told):
        sample(decoder_overflows, [0, 1], [0, 0], config, stream=1)
    path = tmp_path / "pool"
    with pytest.raises(GeneratorError, match=told):
        sample_pool(decoder_overflows, config, (1, 16, 16), per_class=1, stream=1, path=path)
    assert not path.exists()
    exact = replace(decoder_overflows, precision="fp32")
    with pytest.raises(GeneratorError, match=r"in fp32 \(the checkpoint of generator.path is dam"):
        sample(exact, [0], [0], config, stream=1)


def test_what_the_vae_ruins_is_told_before_all_is_drawn(
    decoder_overflows: Foundation, config: GeneratorConfig, tmp_path: Path
) -> None:
    steps: list[int] = []
    hook = decoder_overflows.denoiser.register_forward_hook(
        lambda _module, given, _made: steps.append(len(given[0]))
    )
    small = config.model_copy(update={"batch_size": 1})
    with hook, pytest.raises(GeneratorError, match="VAE decodes"):
        sample_pool(
            decoder_overflows, small, (1, 16, 16), per_class=5, stream=1, path=tmp_path / "pool"
        )
    assert sum(steps) == 2 * config.steps  # of the ten images two


def test_encoding_blames_the_vae_and_not_the_learning_rate(encoder_overflows: Foundation) -> None:
    with pytest.raises(GeneratorError, match=r"VAE encodes 4 of 4 images .* in bf16") as error:
        tune_lora(encoder_overflows, REAL, LoraConfig(steps=1), seed=0)
    assert "lora.lr" not in str(error.value)
    with pytest.raises(GeneratorError, match="VAE encodes"):
        encode_latents(encoder_overflows, IMAGES)


def test_denoising_blames_the_denoiser_or_its_adapter(
    sound: Foundation, denoiser_overflows: Foundation, config: GeneratorConfig, tmp_path: Path
) -> None:
    with pytest.raises(GeneratorError) as error:
        sample_latents(denoiser_overflows, [0, 1], [0, 0], config, stream=1)
    assert str(error.value) == (
        "denoising in bf16 ends in NaN or infinity for 2 of 2 images: the fault is the unet's, "
        "not the VAE's (set generator.precision=fp32)"
    )
    state = tune_lora(sound, REAL, LoraConfig(steps=1, layers="attention"), seed=0).state
    huge = {
        name: value.sign() * 1e30 + (value == 0) * 1e30 for name, value in state.items()
    }  # each finite, their product is not
    save_adapter(tmp_path / "a", huge)
    with (
        sound.adapter(tmp_path / "a"),
        pytest.raises(GeneratorError, match=r"unet's or its adapter, .* a lower lora.lr or dpo.lr"),
    ):
        sample_latents(sound, [0], [0], config, stream=1)


def test_guidance_through_a_bad_decoder_is_named(
    decoder_overflows: Foundation, config: GeneratorConfig
) -> None:
    def gap(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3)) * float("nan")

    process = decoder_overflows.noise_process()
    guide = DiscrepancyGuidance(process, gap, (3, 16, 16), 1.0)
    with pytest.raises(GeneratorError, match=r"precision=fp32, or lower steering.strength\)"):
        sample_latents(decoder_overflows, [0], [0], config, stream=1, discrepancy_guidance=guide)


def test_nothing_lands_in_the_cache(
    decoder_overflows: Foundation,
    config: GeneratorConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run = RunConfig.from_flat(
        {
            "method": "regl",
            "generator.path": config.path,
            "generator.steps": 2,
            "pool.per-class": 2,
            "probe.per-class": 2,
        }
    )
    monkeypatch.setattr(
        "regl_app.supplement.run_generator.shared_foundation", lambda *_: decoder_overflows
    )
    synthesizer = Synthesizer(run, CONCEPTS, (3, 20, 20), seed=0, device="cpu", cache_dir=tmp_path)
    frozen = ClientGenerator.frozen("client-0")
    ways: list[Callable[[], object]] = [
        lambda: synthesizer.generate(np.array([1, 1]), frozen, REAL),
        lambda: synthesizer.pool(frozen),
        synthesizer.probe,
    ]
    for way in ways:
        with pytest.raises(GeneratorError, match=r"generator\.precision=fp32"):
            way()
    assert not [path for path in tmp_path.rglob("*.safetensors") if path.is_file()]


def test_a_stored_pool_with_nan_is_made_again(
    sound: Foundation, config: GeneratorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pool.safetensors"
    with monkeypatch.context() as before:  # as versions did that did not look
        for check in ("sampling.check_denoised", "decoding.check_decoded"):
            before.setattr(f"regl_app.generator.{check}", lambda *_, **__: None)
        broken = poisoned(sound, "denoiser", "conv_out", float("nan"))
        sample_pool(broken, config, (1, 16, 16), per_class=1, stream=1, path=path)
    assert path.exists()
    assert load_pool(path, 2, 1) is None


@pytest.mark.parametrize(
    ("precision", "upcast", "dtype"),
    [
        ("fp16", True, None),
        ("fp16", False, torch.float16),
        ("bf16", True, torch.bfloat16),
        ("fp32", True, None),
    ],
)
def test_a_vae_that_overflows_in_fp16_runs_in_fp32(
    sound: Foundation,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    upcast: bool,
    dtype: torch.dtype | None,
) -> None:
    vae = copy.deepcopy(sound.vae)
    vae.register_to_config(force_upcast=upcast)
    seen: list[torch.dtype | None] = []

    def spy(*_: object) -> None:
        cast = torch.is_autocast_enabled("cpu")
        seen.append(torch.get_autocast_dtype("cpu") if cast else None)

    for part in (vae.encoder, vae.decoder):
        part.register_forward_pre_hook(spy)
    foundation = replace(sound, vae=vae, precision=precision)
    with torch.no_grad():
        foundation.decode(foundation.encode(torch.zeros(1, 3, 48, 48)))
    assert seen == [dtype, dtype]
    assert foundation.vae_precision == (precision if dtype else "fp32")
