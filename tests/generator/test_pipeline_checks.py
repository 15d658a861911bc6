"""What a pipeline's configs tell before its weights are there: its kind, and what it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from regl_app.core.errors import GeneratorError
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.fitting import fit_of
from regl_app.generator.pipeline_config import KINDS, text_to_image_class

UNET = {"_class_name": "UNet2DConditionModel", "in_channels": 4, "sample_size": 64}
XL = UNET | {"addition_embed_type": "text_time", "sample_size": 128}
FLUX = {"_class_name": "FluxTransformer2DModel", "in_channels": 64, "guidance_embeds": True}
SD3 = {"_class_name": "SD3Transformer2DModel", "in_channels": 16, "sample_size": 128}
SANA = {"_class_name": "SanaTransformer2DModel", "in_channels": 32, "sample_size": 32}
OLD_PIXART = {
    "_class_name": "Transformer2DModel",
    "norm_type": "ada_norm_single",
    "in_channels": 4,
    "sample_size": 128,
}


def checkpoint(
    folder: Path,
    kind: str,
    denoiser: Mapping[str, Any],
    *,
    latents: int = 4,
    index: Mapping[str, Any] = {},
) -> Path:
    """Write a pipeline's configs, and beside them files without a tensor for its weights."""
    part = "unet" if str(denoiser["_class_name"]).startswith("UNet") else "transformer"
    blocks = [128, 256, 512, 512]
    contents: dict[str, Mapping[str, Any]] = {
        "model_index.json": {
            "_class_name": kind,
            part: ["diffusers", denoiser["_class_name"]],
            "vae": ["diffusers", "AutoencoderKL"],
            **index,
        },
        f"{part}/config.json": denoiser,
        "vae/config.json": {"latent_channels": latents, "block_out_channels": blocks},
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    for name in (part, "vae"):
        save_file({}, folder / name / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("kind", "denoiser", "latents"),
    [
        ("StableDiffusionPipeline", UNET, 4),
        ("StableDiffusionXLInpaintPipeline", XL, 4),  # that works without a mask as well
        ("StableDiffusionXLPAGPipeline", XL, 4),
        ("LatentConsistencyModelPipeline", UNET | {"time_cond_proj_dim": 256}, 4),
        ("StableDiffusion3Pipeline", SD3, 16),
        ("PixArtAlphaPipeline", OLD_PIXART, 4),
        ("SanaPipeline", SANA, 32),
        ("FluxImg2ImgPipeline", FLUX, 16),
    ],
)
def test_a_text_to_image_pipeline_is_taken(
    kind: str, denoiser: Mapping[str, Any], latents: int, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, kind, denoiser, latents=latents)
    assert resolve_generator(str(folder)) == folder


@pytest.mark.parametrize(
    ("kind", "denoiser", "latents"),
    [
        ("FluxControlPipeline", FLUX | {"in_channels": 128}, 16),
        ("FluxFillPipeline", FLUX | {"in_channels": 384}, 16),
        ("FluxKontextPipeline", FLUX, 16),
        ("StableDiffusionControlNetPipeline", UNET, 4),
        ("StableDiffusion3ControlNetPipeline", SD3, 16),
        ("StableDiffusionUpscalePipeline", UNET | {"in_channels": 7}, 4),
        ("StableUnCLIPImg2ImgPipeline", UNET | {"class_embed_type": "projection"}, 4),
        ("StableDiffusionImageVariationPipeline", UNET, 4),
        ("KandinskyV22Pipeline", UNET, 4),
        ("KandinskyV22CombinedPipeline", UNET, 4),
        ("IFPipeline", UNET | {"in_channels": 3}, 4),
        ("KolorsPipeline", XL, 4),
        ("SanaSprintPipeline", SANA, 32),
        ("FLUX", FLUX, 16),
    ],
)
def test_a_pipeline_of_another_kind_is_refused_before_it_is_loaded(
    kind: str, denoiser: Mapping[str, Any], latents: int, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, kind, denoiser, latents=latents)
    says = rf"is a {kind}, which is no text-to-image .* allowed are StableDiffusionPipeline, .*give"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(folder))


@pytest.mark.parametrize(
    ("kind", "denoiser", "latents", "says"),
    [
        # Canny, depth and fill, saved by a pipeline that says it is told text alone.
        ("FluxPipeline", {"in_channels": 128}, 16, "takes 128 channels.* have 16, packed 64: it"),
        ("FluxPipeline", {"in_channels": 384}, 16, "takes 384 channels.* have 16, packed 64: it"),
        ("StableDiffusion3Pipeline", {"in_channels": 33}, 16, "takes 33 channels.* have 16: it"),
        ("StableDiffusionPipeline", {"class_embed_type": "projection"}, 4, "class_embed_type='pro"),
        ("StableDiffusionPipeline", {"num_class_embeds": 1000}, 4, "num_class_embeds=1000"),
        ("StableDiffusionPipeline", {"encoder_hid_dim_type": "image_proj"}, 4, "hid_dim_type='im"),
        ("StableDiffusionXLPipeline", {"encoder_hid_dim_type": "ip_image_proj"}, 4, "dim_type='ip"),
        ("StableDiffusionPipeline", {"addition_embed_type": "image"}, 4, "embed_type='image'"),
        ("SanaPipeline", {"guidance_embeds": True}, 32, "guidance_embeds=True"),
    ],
)
def test_a_denoiser_that_needs_more_than_text_is_refused_by_its_config(
    kind: str, denoiser: Mapping[str, Any], latents: int, says: str, tmp_path: Path
) -> None:
    plain = {"Flux": FLUX, "StableDiffusion3": SD3, "StableDiffusion": UNET, "Sana": SANA}
    own = next(config for name, config in plain.items() if kind.startswith(name))
    folder = checkpoint(tmp_path, kind, own | denoiser, latents=latents)
    with pytest.raises(GeneratorError, match=rf"{says}.* needs more than text \(give "):
        resolve_generator(str(folder))


def test_the_refiner_is_refused_by_name(tmp_path: Path) -> None:
    refiner = {"requires_aesthetics_score": True}
    folder = checkpoint(tmp_path, "StableDiffusionXLImg2ImgPipeline", XL, index=refiner)
    with pytest.raises(
        GeneratorError, match=r"requires_aesthetics_score.* refiner .*give the base"
    ):
        resolve_generator(str(folder))


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_a_quantized_part_is_refused_by_name(part: str, tmp_path: Path) -> None:
    parts = {"text_encoder_2": ["transformers", "T5EncoderModel"]}
    folder = checkpoint(tmp_path, "FluxPipeline", FLUX, latents=16, index=parts)
    (folder / part).mkdir(exist_ok=True)
    (folder / part / "model.safetensors").touch()
    content = {**FLUX, "quantization_config": {"quant_method": "bitsandbytes"}}
    (folder / part / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(GeneratorError, match=rf"its '{part}' quantized \(bitsandbytes.*give the "):
        resolve_generator(str(folder))


def test_a_denoiser_of_another_class_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "FluxPipeline", FLUX, latents=16)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["transformer"] = ["diffusers", "ChromaTransformer2DModel"]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    says = "its 'transformer' is a ChromaTransformer2DModel, not a FluxTransformer2DModel"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(folder))


def test_pixart_is_known_by_the_class_that_it_was_published_with(tmp_path: Path) -> None:
    assert fit_of(checkpoint(tmp_path, "PixArtAlphaPipeline", OLD_PIXART)).name == "PixArt"


def test_its_kinds_are_those_of_diffusers_and_of_the_families() -> None:
    from diffusers.pipelines import auto_pipeline

    known = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    assert set(KINDS) <= {kind.__name__ for kind in known}
    assert set(KINDS.values()) == {(family.part, name) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("task", ["IMAGE2IMAGE", "INPAINT"])
def test_what_another_task_s_pipeline_saved_is_as_diffusers_has_it(
    task: str, tmp_path: Path
) -> None:
    from diffusers.pipelines import auto_pipeline

    plain = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    found = 0
    for name, kind in getattr(auto_pipeline, f"AUTO_{task}_PIPELINES_MAPPING").items():
        if name in plain and plain[name].__name__ in KINDS:
            folder = checkpoint(tmp_path, kind.__name__, UNET)
            assert text_to_image_class(folder) == plain[name].__name__
            found += 1
    assert found >= 4
