"""Weights of half the size: as diffusers' pipelines draw, as its LoRA script tunes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.precision import Precision
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator import foundation as module
from regl_app.generator import held_weights, prompts
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import lora_update
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.families.family import Told
from regl_app.generator.foundation import Foundation
from regl_app.generator.held_weights import held_precision, text_precision, types_to_load
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.sampling import sample
from regl_app.supplement.cache_keys import CacheKeys

CONCEPTS = ("the digit zero", "the digit one", "the digit two")
LORA = LoraConfig(layers="all", rank=4, alpha=8.0, steps=12, batch_size=4, lr=5e-3)
CUDA = torch.device("cuda")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold weights in what is run, as of a large checkpoint."""
    monkeypatch.setattr(module, "held_precision", lambda _folder, precision: precision)
    return


def settings(folder: Path, **keys: Any) -> GeneratorConfig:
    own = {"path": str(folder), "steps": 3, "guidance": 2.0, "precision": "bf16", **keys}
    return GeneratorConfig(**own)


def real() -> ImageSet:
    images = torch.full((12, 1, 32, 32), 20, dtype=torch.uint8)
    images[:, :, 8:24, 8:24] = 220
    return ImageSet(images, torch.arange(12) % 2)


def test_what_is_large_is_held_in_what_is_run(
    second_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held_precision(second_pipeline, "bf16") == "fp32"  # it is small
    monkeypatch.setattr(held_weights, "SMALL", 1)
    assert held_precision(second_pipeline, "bf16") == "bf16"
    assert held_precision(second_pipeline, "fp16") == "fp16"
    assert held_precision(second_pipeline, "fp32") == "fp32"


def test_the_bundled_generator_is_held_in_fp32() -> None:
    assert held_precision(resolve_generator("bundled"), "bf16") == "fp32"


def test_text_encoders_that_overflow_stay_out_of_fp16() -> None:
    assert [text_precision(each) for each in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp32"]
    assert types_to_load("fp32") == {}
    assert types_to_load("fp16")["default"] == torch.float32
    assert types_to_load("bf16")["transformer"] == torch.bfloat16


@pytest.mark.usefixtures("held")
def test_every_weight_takes_two_bytes(second_pipeline: Path) -> None:
    foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
    for part in (foundation.denoiser, foundation.vae):
        assert {p.dtype for p in part.parameters()} == {torch.bfloat16}
        assert not any(p.requires_grad for p in part.parameters())
    exact = Foundation.load(settings(second_pipeline, precision="fp32"), CONCEPTS)
    assert {p.dtype for p in exact.denoiser.parameters()} == {torch.float32}
    told, plain = (each.text.tensors["embeddings"] for each in (foundation, exact))
    assert told.dtype == torch.float32
    torch.testing.assert_close(told, plain, atol=0.05, rtol=0.05)


@pytest.mark.usefixtures("held")
def test_a_vae_that_overflows_in_fp16_stays_in_fp32(
    second_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "precision_on", lambda *_: "fp16")
    load = module._load_pipeline
    for overflows, expected in ((True, torch.float32), (False, torch.float16)):

        def made(folder: Path, held: Any, overflows: bool = overflows) -> Any:
            pipeline = load(folder, held)
            pipeline.vae.register_to_config(force_upcast=overflows)
            return pipeline

        monkeypatch.setattr(module, "_load_pipeline", made)
        foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
        assert foundation.denoiser.dtype == torch.float16
        assert foundation.vae.dtype == expected
        assert foundation.text.tensors["embeddings"].isfinite().all()


@pytest.mark.usefixtures("held")
def test_its_images_are_those_of_a_pipeline_in_bf16(second_pipeline: Path) -> None:
    from diffusers import StableDiffusionPipeline

    config = settings(second_pipeline, guidance_stop=1.0)
    foundation = Foundation.load(config, CONCEPTS)
    pipeline = StableDiffusionPipeline.from_pretrained(second_pipeline, dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.stack(
        [torch.randn(foundation.latent_shape, generator=torch_generator(3, c, 0)) for c in range(3)]
    )
    expected = pipeline(
        list(foundation.prompts),
        num_inference_steps=3,
        guidance_scale=2.0,
        latents=noise.to(torch.bfloat16),
        output_type="pt",
    ).images
    images = sample(foundation, [0, 1, 2], [0, 0, 0], config, stream=3)
    assert (images - expected.float() * 255).abs().mean() < 1.0  # theirs round after each step
    exact = settings(second_pipeline, guidance_stop=1.0, precision="fp32")
    drawn = sample(Foundation.load(exact, CONCEPTS), [0, 1, 2], [0, 0, 0], exact, stream=3)
    assert (images.int() - drawn.int()).abs().float().mean() < 1.0


@pytest.mark.usefixtures("held")
def test_lora_weights_are_tuned_in_fp32_on_top(second_pipeline: Path) -> None:
    foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    tuned = tune_lora(foundation, real(), LORA, seed=1)
    assert {value.dtype for value in tuned.state.values()} == {torch.float32}
    # What bf16 could not hold is there: small steps have not been rounded away.
    assert any(not torch.equal(v, v.bfloat16().float()) for v in tuned.state.values())
    after = foundation.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    exact = Foundation.load(settings(second_pipeline, precision="fp32"), CONCEPTS)
    assert tuned.loss == pytest.approx(tune_lora(exact, real(), LORA, seed=1).loss, rel=0.02)


@pytest.mark.usefixtures("held")
def test_an_adapter_is_merged_with_one_rounding(second_pipeline: Path) -> None:
    foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
    state = tune_lora(foundation, real(), LORA, seed=1).state
    name = next(key for key in state if "lora_A" in key).removesuffix(".lora_A.weight")
    layer = foundation.denoiser.get_submodule(name.partition(".")[2])
    frozen = layer.weight.detach().clone()
    update = lora_update(state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"])
    exact = frozen.float() + update
    with foundation.adapters.using(state, "a test"):
        merged = layer.weight.detach().clone()
    assert torch.equal(layer.weight, frozen)
    # Up or down: less than a step away, which is 1/128 of a power of two.
    assert ((merged.float() - exact).abs() < 2.0 ** (exact.abs().log2().floor() - 7)).all()
    assert not torch.equal(merged, exact.bfloat16())
    with foundation.adapters.using(state, "again"):
        assert torch.equal(layer.weight, merged)


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_of_a_small_update_nothing_is_rounded_away_in_the_mean(
    second_pipeline: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    monkeypatch.setattr(module, "precision_on", lambda *_: precision)
    foundation = Foundation.load(settings(second_pipeline, precision=precision), CONCEPTS)
    random = torch.Generator().manual_seed(0)
    step = {"bf16": 2.0**-8, "fp16": 2.0**-11}[precision]
    part, before, state = foundation.family.part, {}, {}
    for name in foundation.family.adapted_layers(foundation.denoiser, "attention"):
        before[name] = foundation.denoiser.get_submodule(name).weight.detach().float()
        out, into = before[name].shape
        signs = torch.randint(2, (out, 1), generator=random) * 2.0 - 1
        state[f"{part}.{name}.lora_A.weight"] = torch.ones(1, into)
        state[f"{part}.{name}.lora_B.weight"] = signs * 0.2 * step * before[name].abs().mean()
    kept = nearest = wanted = 0.0
    with foundation.adapters.using(state, "a test"):
        for name, frozen in before.items():
            weight = foundation.denoiser.get_submodule(name).weight
            update = lora_update(*(state[f"{part}.{name}.lora_{m}.weight"] for m in "AB"))
            rounded = (frozen + update).to(weight.dtype).float()
            kept += float(((weight.float() - frozen) * update).sum())
            nearest += float(((rounded - frozen) * update).sum())
            wanted += float(update.square().sum())
    if precision == "bf16":
        assert kept / wanted == pytest.approx(1.0, abs=0.1)
        assert nearest / wanted < 0.8
    else:
        assert kept == nearest


@pytest.mark.usefixtures("held")
def test_preferences_start_from_the_reference_to_the_bit(second_pipeline: Path) -> None:
    foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
    latents = torch.randn((4, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))
    pairs, rows = torch.tensor([[0, 2], [1, 3]]), torch.tensor([0, 0, 1, 1])
    config = DpoConfig(steps=3, batch_size=2, beta=100.0, lr=1e-3)
    tuned = tune_dpo(foundation, latents, rows, pairs, config, LORA, seed=0)
    assert tuned.margins[0] == 0.0
    assert tuned.margins[-1] != 0.0
    assert {value.dtype for value in tuned.state.values()} == {torch.float32}


@pytest.mark.usefixtures("held")
def test_the_gradient_through_the_decoder_is_finite(second_pipeline: Path) -> None:
    foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
    latents = encode_latents(foundation, real().images[:2]).requires_grad_()
    assert latents.dtype == torch.float32
    (gradient,) = torch.autograd.grad(foundation.decode(latents).sum(), latents)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_text_encoders_are_freed(second_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Any]] = []
    load = module._load_pipeline

    def spy(folder: Path, held: Any) -> Any:
        pipeline = load(folder, held)
        seen.append(weakref.ref(pipeline.text_encoder))
        return pipeline

    monkeypatch.setattr(module, "_load_pipeline", spy)
    gc.collect()
    gc.disable()
    try:
        foundation = Foundation.load(settings(second_pipeline), CONCEPTS)
        assert seen[0]() is None
    finally:
        gc.enable()
    assert foundation.text.tensors["embeddings"].isfinite().all()


def test_prompts_are_encoded_on_the_processor_where_the_device_is_too_small(
    second_pipeline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Foundation.load(settings(second_pipeline), CONCEPTS)
    encode, moved, tried = prompts.encode_prompts, prompts._moved, []

    def too_small(pipeline: Any, place: str, precision: Precision) -> bool:
        tried.append(place)
        if place != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return moved(pipeline, place, precision)

    def on_a_card(pipeline: Any, family: Any, texts: Any, told: Told, *rest: Any) -> Any:
        return encode(pipeline, family, texts, replace(told, encoded_on="cuda:0"), *rest)

    monkeypatch.setattr(prompts, "_moved", too_small)
    monkeypatch.setattr(module, "encode_prompts", on_a_card)
    found = Foundation.load(settings(second_pipeline), CONCEPTS)
    assert tried == ["cuda:0", "cpu"]
    assert "the text encoders do not fit into the memory of" in caplog.text
    assert torch.equal(found.text.tensors["embeddings"], plain.text.tensors["embeddings"])


def test_weights_that_do_not_fit_are_our_error(
    second_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(held_weights, "_move", full)
    with pytest.raises(GeneratorError) as error:
        Foundation.load(settings(second_pipeline), CONCEPTS)
    assert "GB of weights of the generator's UNet2DConditionModel do not fit into cpu" in str(
        error.value
    )
    assert "let fewer clients run on it at once, set generator.precision=bf16" in str(error.value)


def test_images_of_weights_in_half_the_size_are_kept_apart(
    second_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig.from_flat(
        {"generator.path": str(second_pipeline), "generator.precision": "bf16"}
    )

    def key(device: torch.device, adapter: str = "frozen") -> dict[str, Any]:
        keys = CacheKeys(config, CONCEPTS, (3, 32, 32), device)
        return dict(keys.pool(adapter, 1, 2))

    assert "held" not in key(CUDA)
    assert "merged" not in key(CUDA, "an adapter's digest")
    monkeypatch.setattr(held_weights, "SMALL", 1)
    assert key(CUDA)["held"] == key(torch.device("cpu"))["held"] == "bf16"
    assert key(CUDA, "an adapter's digest")["merged"] == "by a hash"
