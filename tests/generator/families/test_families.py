"""Every family's images are plain diffusers', and its adapters are read by diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import save_adapter
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance, log_gap
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.sampling import sample, sample_latents
from regl_app.learning.models.cnn import SmallCnn
from tests.generator.families.img2img import check_img2img

NAMES = (
    "sdxl",
    "lcm",
    "sd3",
    "sd3-without-t5",
    "sd3.5",
    "sd3-shifted-by-size",
    "pixart",
    "sana",
    "sana-dpm",
    "flux-schnell",
    "flux-dev",
)
FEW_STEPS = ("sdxl-turbo", "sdxl-lightning", "sdxl-lcm", "sdxl-tcd")
"""An XL with the solvers that its distilled kin come with."""
DRAWING = ("lcm", "sdxl-turbo", "sdxl-lcm")
"""Their solvers draw noise in every step but the last: here of one generator per image."""
CLASSES = ("a cat", "a dog", "a horse")
LABELS, INDICES = [0, 1, 2, 1], [0, 0, 0, 1]


def settings(folder: Path, guidance: float) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(folder),
        steps=3,
        guidance=guidance,
        guidance_stop=1.0,
        image_size=32,
        precision="fp32",
    )


def by_diffusers(
    folder: Path, foundation: Foundation, config: GeneratorConfig, adapter: Path | None = None
) -> torch.Tensor:
    """Return what the pipeline makes of the noise that ``sample`` starts from, in [0, 1]."""
    from diffusers import AutoPipelineForText2Image

    index = (folder / "model_index.json").read_text(encoding="utf-8")
    own: dict[str, Any] = {}
    if "StableDiffusion3" in index and not (folder / "text_encoder_3").is_dir():
        own = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = AutoPipelineForText2Image.from_pretrained(folder, safety_checker=None, **own)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(adapter)
    noise = torch.stack(
        [
            torch.randn(foundation.latent_shape, generator=torch_generator(7, label, index))
            for label, index in zip(LABELS, INDICES, strict=True)
        ]
    )
    if type(pipeline).__name__ == "FluxPipeline":
        noise = pipeline._pack_latents(noise, *noise.shape)
    names = inspect.signature(pipeline.__call__).parameters
    negative = config.negative_prompt
    told: dict[str, Any] = {
        name: False for name in ("use_resolution_binning", "clean_caption") if name in names
    }
    if "true_cfg_scale" in names and not foundation.embeds_guidance:  # FLUX schnell
        told |= {"true_cfg_scale": config.guidance, "negative_prompt": [negative] * len(LABELS)}
        told["max_sequence_length"] = 256  # what diffusers' page of FLUX allows this one
    elif negative:
        told["negative_prompt"] = [negative] * len(LABELS)
    images: torch.Tensor = pipeline(
        [foundation.prompts[label] for label in LABELS],
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        latents=noise,
        height=32,
        width=32,
        output_type="pt",
        generator=[torch.Generator().manual_seed(0)] * len(LABELS),
        **told,
    ).images
    return images


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("name", [*NAMES, *FEW_STEPS])
def test_its_images_are_those_of_plain_diffusers(
    name: str, guidance: float, pipelines: Callable[[str], Path]
) -> None:
    config = settings(pipelines(name), guidance)
    if name in DRAWING:
        config = config.model_copy(update={"steps": 1})
    foundation = Foundation.load(config, CLASSES)
    expected = by_diffusers(pipelines(name), foundation, config)
    images = sample(foundation, LABELS, INDICES, config, stream=7)
    assert images.float().std() > 5
    assert ((expected * 255) - images).abs().max() <= 1.0  # rounding to whole numbers


@pytest.mark.parametrize("name", ["sdxl", "sd3", "pixart", "sana", "flux-schnell"])
def test_guidance_leads_away_from_a_negative_prompt_as_in_plain_diffusers(
    name: str, pipelines: Callable[[str], Path]
) -> None:
    plain = settings(pipelines(name), 2.5)
    away = plain.model_copy(update={"negative_prompt": "ugly"})
    foundation = Foundation.load(away, CLASSES)
    expected = by_diffusers(pipelines(name), foundation, away)
    images = sample(foundation, LABELS, INDICES, away, stream=7)
    assert ((expected * 255) - images).abs().max() <= 1.0
    empty = sample(Foundation.load(plain, CLASSES), LABELS, INDICES, plain, stream=7)
    assert not torch.equal(images, empty)


@pytest.mark.parametrize("name", NAMES)
def test_the_guidance_and_the_prompt_are_heard(name: str, pipelines: Callable[[str], Path]) -> None:
    made = []
    for guidance in (1.0, 6.0):
        config = settings(pipelines(name), guidance)
        foundation = Foundation.load(config, CLASSES)
        made.append(sample_latents(foundation, [0, 1], [0, 0], config, stream=7))
    assert not torch.allclose(*made, atol=1e-3)


# PixArt's pipelines have no load_lora_weights: see test_pixart.py.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "pixart"])
def test_its_own_pipeline_reads_the_adapters(
    name: str, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    config = settings(pipelines(name), 2.5)
    if name == "lcm":
        config = config.model_copy(update={"steps": 1})
    foundation = Foundation.load(config, CLASSES)
    before = {key: value.clone() for key, value in foundation.denoiser.state_dict().items()}
    real = ImageSet(torch.full((3, 3, 32, 32), 40, dtype=torch.uint8), torch.arange(3))
    lora = LoraConfig(layers="all", rank=2, alpha=4.0, steps=5, batch_size=3, lr=2e-2)
    latents = sample_latents(foundation, torch.tensor(LABELS), INDICES, config, stream=1)
    states = {
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
    for kind, state in states.items():
        save_adapter(tmp_path / kind, state)
        expected = by_diffusers(pipelines(name), foundation, config, tmp_path / kind)
        with foundation.adapter(tmp_path / kind):
            adapted = sample(foundation, LABELS, INDICES, config, stream=7)
        assert ((expected * 255) - adapted).abs().max() <= 1.0
        assert not torch.equal(adapted, frozen)
    after = foundation.denoiser.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_pictures_become_the_latents_of_its_autoencoder(
    name: str, pipelines: Callable[[str], Path]
) -> None:
    foundation = Foundation.load(settings(pipelines(name), 1.0), CLASSES)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    latents = encode_latents(foundation, images)
    assert tuple(latents.shape[1:]) == foundation.latent_shape
    vae = foundation.vae
    output = vae.encode(images.float() / 127.5 - 1)
    raw = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latent
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    torch.testing.assert_close(latents, (raw - shift) * vae.config.scaling_factor)


# Neither PixArt nor Sana has such a pipeline; FLUX's takes no negative prompt without a scale.
@pytest.mark.parametrize(
    "name",
    ["sdxl", "sdxl-lightning", "sdxl-tcd", "lcm", "sd3", "sd3.5", "flux-schnell", "flux-dev"],
)
def test_images_from_pictures_are_those_of_its_img2img_pipeline(
    name: str, pipelines: Callable[[str], Path]
) -> None:
    from diffusers import AutoPipelineForImage2Image

    schnell = name == "flux-schnell"
    config = settings(pipelines(name), 1.0 if schnell else 2.5)
    # Of several steps the solver of the latter draws noise.
    config = config.model_copy(update={"steps": 1 if name == "lcm" else 4, "image_strength": 0.6})
    foundation = Foundation.load(config, CLASSES)
    own = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3.5" else {}
    pipeline = AutoPipelineForImage2Image.from_pretrained(pipelines(name), **own)
    told: dict[str, int] = {"height": 32, "width": 32} if "xl" not in name else {}
    told |= {"max_sequence_length": 256} if schnell else {}
    check_img2img(pipeline, foundation, config, LABELS, INDICES, **told)


def test_all_steps_of_a_latent_consistency_model_start_from_a_picture_as_in_its_pipeline(
    pipelines: Callable[[str], Path],
) -> None:
    from diffusers import AutoPipelineForImage2Image

    config = settings(pipelines("lcm"), 2.5)
    config = config.model_copy(update={"steps": 4, "image_strength": 0.6})
    foundation = Foundation.load(config, CLASSES)
    pipeline = AutoPipelineForImage2Image.from_pretrained(pipelines("lcm"), safety_checker=None)
    pipeline.scheduler.set_timesteps(config.steps, strength=config.image_strength)
    expected = pipeline.scheduler.timesteps
    starts, seen = torch.zeros((1, *foundation.latent_shape)), []
    predict = Foundation.predict

    def spy(self: Foundation, latents: torch.Tensor, timestep: torch.Tensor, *told: Any) -> Any:
        seen.append(int(timestep))
        return predict(self, latents, timestep, *told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Foundation, "predict", spy)
        sample_latents(foundation, [0], [0], config, stream=7, starts=starts)
    assert seen == expected.tolist() and seen[0] == 599 and len(seen) == 4


@pytest.mark.parametrize("name", NAMES)
def test_images_start_from_pictures(name: str, pipelines: Callable[[str], Path]) -> None:
    config = settings(pipelines(name), 1.0)
    weak = config.model_copy(update={"image_strength": 0.34, "steps": 3})
    foundation = Foundation.load(config, CLASSES)
    starts = torch.randn((2, *foundation.latent_shape), generator=torch_generator(0))
    distances = [
        float(
            (sample_latents(foundation, [0, 1], [0, 0], each, stream=7, starts=starts) - starts)
            .abs()
            .mean()
        )
        for each in (weak, config.model_copy(update={"image_strength": 1.0}))
    ]
    assert distances[0] < distances[1]


@pytest.mark.parametrize("name", NAMES)
def test_discrepancy_guidance_steers_it_and_at_strength_zero_leaves_every_bit(
    name: str, pipelines: Callable[[str], Path]
) -> None:
    config = settings(pipelines(name), 1.0)
    foundation = Foundation.load(config, CLASSES)
    gap = log_gap(*(random_classifier(seed) for seed in (1, 2)))
    process = foundation.noise_process()

    def made(strength: float | None) -> torch.Tensor:
        guide = None
        if strength is not None:
            guide = DiscrepancyGuidance(process, gap, (3, 32, 32), strength, 0.5)
        return sample_latents(
            foundation, LABELS, INDICES, config, stream=7, discrepancy_guidance=guide
        )

    def mean_gap(latents: torch.Tensor) -> float:
        with torch.no_grad():
            images = foundation.decode(latents).clamp(-1, 1)
            return float(gap(images, torch.tensor(LABELS)).mean())

    plain = made(None)
    assert torch.equal(made(0.0), plain)
    assert mean_gap(made(2.0)) > mean_gap(plain)


def random_classifier(seed: int) -> SmallCnn:
    generator = torch.Generator().manual_seed(seed)
    model = SmallCnn(3, 3, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", NAMES)
def test_image_tokens_are_heard_and_tuned(
    name: str, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    config = settings(pipelines(name), 2.5)
    foundation = Foundation.load(config, CLASSES)
    images = torch.randint(0, 256, (6, 3, 32, 32), generator=torch_generator(0)).to(torch.uint8)
    real = ImageSet(images, torch.arange(6) % 3)
    lora = LoraConfig(rank=2, steps=4, batch_size=6, lr=5e-2, image_tokens=2)
    state = tune_lora(foundation, real, lora, seed=0).state
    assert state["image_tokens.weight"].any()
    dumb = {**state, "image_tokens.weight": torch.zeros_like(state["image_tokens.weight"])}
    made = []
    for adapter in (state, dumb):
        with foundation.adapters.using(adapter, "tuned"):
            made.append(sample_latents(foundation, LABELS, INDICES, config, stream=7))
    assert not torch.allclose(*made, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "most"), [("sdxl", 32), ("sd3", 32), ("pixart", 16), ("sana", 16), ("flux-dev", 32)]
)
def test_what_the_longest_reader_of_a_prompt_does_not_read_is_named(
    pipelines: Callable[[str], Path], name: str, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    long = " ".join("x" * 60)
    Foundation.load(settings(pipelines(name), 1.0), ("a cat", long))
    messages = [each.getMessage() for each in caplog.records if each.name == "regl"]
    (told,) = [each for each in messages if long in each]
    assert f"is longer than the {most} tokens" in told
