"""What 'auto' becomes: by the checkpoint's files, and never in a run of the bundled generator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from regl_app.config import RunConfig, default_flat
from regl_app.config.run_config import BUNDLED_FIT
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator.fitting import (
    fit_of,
    fit_words,
    fitted,
    fitted_if_here,
    open_keys,
    text_tokens,
)
from regl_app.generator.foundation import Foundation
from regl_app.generator.weights_size import weights_in_memory

SD = {"_class_name": "UNet2DConditionModel", "sample_size": 64}
SDXL = SD | {"sample_size": 128, "addition_embed_type": "text_time"}
EULER = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}


def checkpoint(
    folder: Path, denoiser: Mapping[str, Any], scheduler: Mapping[str, Any] | None = None
) -> Path:
    """Write the configuration files of a pipeline, without weights, and return its folder."""
    part = "unet" if str(denoiser["_class_name"]).startswith("UNet") else "transformer"
    contents: dict[str, Mapping[str, Any]] = {
        "model_index.json": {"_class_name": "StableDiffusionPipeline"},
        f"{part}/config.json": denoiser,
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
        "scheduler/scheduler_config.json": EULER if scheduler is None else scheduler,
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("denoiser", "scheduler", "name", "side", "steps", "guidance"),
    [
        (SD, EULER, "Stable Diffusion 1 or 2", 512, 30, 2.0),
        (SDXL, EULER, "Stable Diffusion XL", 1024, 30, 2.0),
        (
            SDXL,
            EULER | {"timestep_spacing": "trailing"},
            "Stable Diffusion XL, distilled to few steps",
            1024,
            4,
            1.0,
        ),
        (
            SD,
            {"_class_name": "LCMScheduler"},
            "Stable Diffusion 1 or 2, distilled to few steps",
            512,
            4,
            1.0,
        ),
        (SD | {"time_cond_proj_dim": 256}, EULER, "Latent consistency model", 512, 4, 8.5),
        (
            # A model that begins at pure noise spaces its steps so, too, and is not distilled.
            SD,
            EULER | {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
            "Stable Diffusion 1 or 2",
            512,
            30,
            2.0,
        ),
        (
            {"_class_name": "SD3Transformer2DModel", "sample_size": 128},
            EULER,
            "Stable Diffusion 3",
            1024,
            28,
            7.0,
        ),
        (
            {"_class_name": "PixArtTransformer2DModel", "sample_size": 64},
            EULER,
            "PixArt",
            512,
            20,
            4.5,
        ),
        (
            {"_class_name": "PixArtTransformer2DModel", "sample_size": 128},
            {"_class_name": "LCMScheduler"},
            "PixArt, distilled to few steps",
            1024,
            4,
            1.0,
        ),
        ({"_class_name": "SanaTransformer2DModel", "sample_size": 32}, EULER, "Sana", 256, 20, 4.5),
        (
            {"_class_name": "FluxTransformer2DModel", "guidance_embeds": False},
            EULER,
            "FLUX.1 schnell",
            1024,
            4,
            1.0,
        ),
        (
            {"_class_name": "FluxTransformer2DModel", "guidance_embeds": True},
            EULER,
            "FLUX.1 dev",
            1024,
            28,
            3.5,
        ),
    ],
)
def test_each_family_has_its_own(
    denoiser: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    name: str,
    side: int,
    steps: int,
    guidance: float,
    tmp_path: Path,
) -> None:
    fit = fit_of(checkpoint(tmp_path, denoiser, scheduler))
    assert (fit.name, fit.side) == (name, side)
    assert fit.keys["generator.steps"] == steps
    assert fit.keys["generator.guidance"] == guidance
    assert set(fit.keys) == set(BUNDLED_FIT)
    RunConfig.from_flat({"generator.path": "/x", **fit.keys})  # all of them are allowed


@pytest.mark.parametrize(
    ("path", "told", "few"),
    [
        ("SD3.5-Large-Turbo", "", True),
        ("models--stabilityai--stable-diffusion-3.5-large-turbo/snapshots/0123", "", True),
        ("sd3", "stabilityai/stable-diffusion-3.5-large-turbo", True),
        ("turbo/sd3.5-large", "", False),
        ("sd3.5-turbojet", "", False),
        ("sd3-lightning", "", True),
        ("sd3", "/data/turbo/sd3.5-large", False),
        ("sd3", "/cache/models--o--large-turbo/snapshots/0123/transformer", True),
        ("models--stabilityai--stable-diffusion-3.5-large/snapshots/0123", "", False),
    ],
)
def test_a_turbo_of_stable_diffusion_3_is_known_by_its_name_alone(
    path: str, told: str, few: bool, tmp_path: Path
) -> None:
    (tmp_path / path).mkdir(parents=True)
    transformer = {"_class_name": "SD3Transformer2DModel", "sample_size": 128}
    fit = fit_of(checkpoint(tmp_path / path, transformer | {"_name_or_path": told}))
    assert (fit.keys["generator.steps"], fit.keys["generator.guidance"]) == (
        (4, 1.0) if few else (28, 7.0)
    )
    assert ("few steps" in fit.name) == few


@pytest.mark.parametrize(
    ("path", "told", "steps"),
    [
        ("sdxl_lightning_4step", "", 4),
        ("sdxl_lightning_8step_unet", "", 8),
        ("dreamshaper-xl-v2-turbo", "", 4),
        ("dreamshaperXL_v21TurboDPMSDE", "", 4),
        ("Hyper-SDXL-8steps", "", 8),
        ("my-lcm 2-step", "", 2),
        ("models--ByteDance--SDXL-Lightning/snapshots/0123", "", 4),
        ("copy", "stabilityai/sdxl-turbo", 4),
        ("turbo/sdxl-base", "", 30),
        ("turbocharged-xl", "", 30),
        ("models--lightning-ai--xl-base/snapshots/0123", "", 30),
        ("hyper_detailed_sdxl", "", 30),
        ("hyper-realistic-xl", "", 30),
        ("hyper-realistic-xl_30steps", "", 30),
        ("hyper-detail", "xl", 30),
        ("juggernautXL_hyper", "", 4),
        ("copy", "RealVisXL_V4.0_Hyper.safetensors", 4),
        ("HyperRealism_4000steps", "", 30),
        ("sdxl-4step", "", 30),  # of what, nobody knows
        ("turbo-after-4000-steps", "", 4),
    ],
)
@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_unet_of_few_steps_is_known_by_words_of_its_name_and_their_number_by_it(
    path: str, told: str, steps: int, kind: str, tmp_path: Path
) -> None:
    """A single file has the configs of what it was made from, and a merge may have any solver."""
    (tmp_path / path).mkdir(parents=True)
    scheduler = EULER | {"_class_name": kind}
    fit = fit_of(checkpoint(tmp_path / path, SDXL | {"_name_or_path": told}, scheduler))
    few = steps < 30
    by_name = "Stable Diffusion XL, distilled to few steps by its name"
    assert fit.name == (by_name if few else "Stable Diffusion XL")
    found = (fit.keys["generator.steps"], fit.keys["generator.guidance"], fit.keys["dpo.beta"])
    assert found == (steps, 1.0 if few else 2.0, 5000.0)


@pytest.mark.parametrize(
    ("path", "dev", "steps", "guidance"),
    [
        ("FLUX.1-dev", True, 28, 3.5),
        ("Hyper-FLUX.1-dev-8steps", True, 8, 3.5),
        ("hyper-flux-16step", True, 16, 3.5),
        ("flux1-dev-turbo", True, 8, 3.5),
        ("flux1-dev-turbojet", True, 28, 3.5),
        ("flux1-schnell-turbo", False, 4, 1.0),
    ],
)
def test_a_flux_dev_of_few_steps_is_known_by_its_name_and_keeps_its_guidance(
    path: str, dev: bool, steps: int, guidance: float, tmp_path: Path
) -> None:
    (tmp_path / path).mkdir()
    flux = {"_class_name": "FluxTransformer2DModel", "guidance_embeds": dev}
    fit = fit_of(checkpoint(tmp_path / path, flux))
    assert (fit.keys["generator.steps"], fit.keys["generator.guidance"]) == (steps, guidance)
    assert ("few steps by its name" in fit.name) == (dev and steps < 28)


@pytest.mark.parametrize(
    ("denoiser", "name"),
    [
        (SD, "Stable Diffusion 1 or 2, distilled to few steps"),
        (
            {"_class_name": "PixArtTransformer2DModel", "sample_size": 128},
            "PixArt, distilled to fe",
        ),
    ],
)
def test_the_number_in_a_name_is_that_of_the_steps_whatever_tells_that_they_are_few(
    denoiser: Mapping[str, Any], name: str, tmp_path: Path
) -> None:
    (tmp_path / "lcm-8step").mkdir()
    folder = checkpoint(tmp_path / "lcm-8step", denoiser, {"_class_name": "LCMScheduler"})
    fit = fit_of(folder)
    assert fit.name.startswith(name) and not fit.name.endswith("by its name")
    assert (fit.keys["generator.steps"], fit.keys["generator.guidance"]) == (8, 1.0)
    config = RunConfig.from_flat({"generator.path": str(folder)})
    assert fit_words(config).startswith(name) and "generator.steps=8" in fit_words(config)


def test_a_link_s_name_counts_and_not_that_of_the_folder_alone_that_it_leads_to(
    tmp_path: Path,
) -> None:
    transformer = {"_class_name": "SD3Transformer2DModel", "sample_size": 128}
    (tmp_path / "12ab").mkdir()
    target = checkpoint(tmp_path / "12ab", transformer)
    assert fit_of(target, 0, str(tmp_path / "sd3.5-large-turbo")).keys["generator.steps"] == 4
    assert fit_of(target, 0, "owner/sd3.5-large").keys["generator.steps"] == 28


@pytest.mark.parametrize(("dev", "tokens"), [(True, None), (False, 256)])
def test_flux_schnell_reads_256_tokens(dev: bool, tokens: int | None, tmp_path: Path) -> None:
    transformer = {"_class_name": "FluxTransformer2DModel", "guidance_embeds": dev}
    assert text_tokens(checkpoint(tmp_path, transformer)) == tokens


def test_the_larger_the_images_the_fewer_at_once(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, SD)
    found = [fit_of(folder, side).keys for side in (256, 512, 1024)]
    assert [keys["generator.batch-size"] for keys in found] == [64, 16, 4]
    assert [keys["lora.batch-size"] for keys in found] == [16, 4, 1]


@pytest.mark.parametrize("denoiser", [SD, SDXL, {"_class_name": "FluxTransformer2DModel"}])
def test_a_large_checkpoint_stays_one_however_small_its_images_are(
    denoiser: Mapping[str, Any], tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, denoiser)
    own, small = fit_of(folder), fit_of(folder, 64)
    assert (small.side, small.name, small.as_bundled) == (64, own.name, False)
    for key in ("generator.steps", "lora.lr", "lora.rank", "dpo.lr", "dpo.beta"):
        assert small.keys[key] == own.keys[key]


def test_a_small_checkpoint_stays_one_however_large_its_images_are(second_pipeline: Path) -> None:
    large = fit_of(second_pipeline, 96)
    assert (large.side, large.as_bundled, large.keys) == (96, True, BUNDLED_FIT)


def test_a_small_checkpoint_has_what_the_bundled_one_has(second_pipeline: Path) -> None:
    config = RunConfig.from_flat({"generator.path": str(second_pipeline)})
    plain = RunConfig.from_flat({}).to_flat() | {"generator.path": str(second_pipeline)}
    assert fitted(config).to_flat() == plain


def test_the_bundled_generator_s_values_need_no_file() -> None:
    config = RunConfig.from_flat({})
    assert not open_keys(config)
    assert fitted(config) is config
    assert fit_words(config) == ""
    assert all(config.to_flat()[key] == value for key, value in BUNDLED_FIT.items())
    assert all(default_flat()[key] == "auto" for key in BUNDLED_FIT)


def test_who_names_a_value_gets_it(tmp_path: Path) -> None:
    path = str(checkpoint(tmp_path, SD))
    config = RunConfig.from_flat({"generator.path": path, "lora.lr": 0.25, "generator.steps": 7})
    found = fitted(config)
    assert (found.lora.lr, found.generator.steps, found.generator.guidance) == (0.25, 7, 2.0)
    words = fit_words(config)
    assert words.startswith("Stable Diffusion 1 or 2 of 512 px: generator.guidance=2.0, ")
    assert "lora.lr" not in words


def test_who_names_a_rank_gets_the_alpha_of_it(tmp_path: Path) -> None:
    path = str(checkpoint(tmp_path, SD))
    found = [
        fitted(RunConfig.from_flat({"generator.path": path, **named})).lora
        for named in (
            {},
            {"lora.rank": 4},
            {"lora.alpha": 4.0},
            {"lora.rank": 4, "lora.alpha": 8.0},
        )
    ]
    assert [(lora.rank, lora.alpha) for lora in found] == [
        (16, 16.0),
        (4, 4.0),
        (16, 4.0),
        (4, 8.0),
    ]


@pytest.mark.parametrize(
    ("named", "candidates"),
    [
        ({}, 80),
        ({"supplement.cap": 100}, 200),
        ({"supplement.cap": 12}, 24),
        ({"supplement.cap": 0, "probe.per-class": 5}, 5),
        ({"supplement.cap": 0, "probe.per-class": 1}, 2),
        ({"supplement.cap": 50, "pool.per-class": 60}, 60),
    ],
)
def test_the_pool_leaves_a_choice_whatever_is_picked_from_it(
    named: dict[str, Any], candidates: int, tmp_path: Path
) -> None:
    path = str(checkpoint(tmp_path, SD))
    config = RunConfig.from_flat({"generator.path": path, "supplement.adapter": "dpo", **named})
    assert fitted(config).pool.per_class == candidates
    if "pool.per-class" not in named:
        assert f"pool.per-class={candidates}" in fit_words(config)


@pytest.mark.parametrize(("cap", "candidates"), [(40, 80), (60, 80), (100, 200)])
def test_a_small_checkpoint_has_the_bundled_ones_pool_as_far_as_it_goes(
    cap: int, candidates: int, second_pipeline: Path
) -> None:
    own = {"generator.path": str(second_pipeline), "supplement.cap": cap, "lora.rank": 4}
    found = fitted(RunConfig.from_flat({**own, "supplement.selection": "discrepancy"}))
    assert found.pool.per_class == candidates
    assert (found.lora.rank, found.lora.alpha) == (4, 8.0)


def test_a_rank_that_is_named_leaves_the_bundled_ones_alpha() -> None:
    found = RunConfig.from_flat({"lora.rank": 4, "supplement.cap": 10})
    assert (found.lora.rank, found.lora.alpha, found.pool.per_class) == (4, 8.0, 80)


def test_a_generator_of_the_clients_alone_is_left_to_them(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"generator.path": str(tmp_path / "absent")})
    assert fitted_if_here(config) is config
    assert fit_words(config).startswith("as fits each client's own (")
    with pytest.raises(GeneratorError, match="is no folder"):
        fitted(config)


def test_what_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"_class_name": "Unknown2DModel"})
    with pytest.raises(GeneratorError, match="has a denoiser of none of UNet2DConditionModel"):
        fit_of(folder)


def test_another_generator_leaves_what_fitted_the_bundled_one() -> None:
    own = RunConfig.from_flat({"lora.lr": 0.25}).updated({"generator.path": "/x"})
    assert own.lora.lr == 0.25
    assert own.to_flat()["generator.steps"] == "auto"
    moved = RunConfig.from_flat({"generator.path": "x", "generator.steps": 10})
    assert moved.updated({"generator.path": "/y/x"}).generator.steps == 10


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("generator.steps", 0, "must be >= 1, got 0"),
        ("generator.steps", "Auto", "must be a whole number, got 'Auto'"),
        ("lora.layers", "none", "must be one of 'convolution', 'attention' or 'all'"),
        ("dpo.beta", -1.0, "must be > 0"),
    ],
)
def test_what_is_neither_auto_nor_allowed_is_refused(key: str, value: Any, problem: str) -> None:
    with pytest.raises(Exception, match=f"{key} {problem}"):
        RunConfig.from_flat({"generator.path": "/x", key: value})


def test_the_memory_of_the_weights_is_that_of_the_loaded_parts(second_pipeline: Path) -> None:
    foundation = Foundation.load(GeneratorConfig(path=str(second_pipeline)), ("a cat", "a dog"))
    parts = (foundation.denoiser, foundation.vae)
    loaded = sum(4 * weight.numel() for part in parts for weight in part.parameters())
    assert weights_in_memory(second_pipeline) == loaded


def test_a_damaged_file_is_named(second_pipeline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(second_pipeline, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(GeneratorError, match=r"the denoiser of .* cannot be read"):
        weights_in_memory(folder)
