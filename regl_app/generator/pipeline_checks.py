"""Which pipelines are refused by their configs alone, before any weight is fetched or read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regl_app.core.errors import GeneratorError
from regl_app.generator.pipeline_config import KINDS, part_config, text_to_image_class
from regl_app.generator.weight_files import parts_of, read_index

_BASE = "give the text-to-image checkpoint that it was made from"
_USES: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (5, 4): "depth-to-image",
        (7, 4): "an upscaler",
        (8, 4): "for editing (pix2pix)",
        (9, 4): "for inpainting",
        (128, 16): "steered by a picture (FLUX.1 Canny, Depth)",
        (384, 16): "for inpainting (FLUX.1 Fill)",
    }
)
"""What a denoiser is for, by the channels that it takes and those of its VAE's latents."""
_TOLD: Mapping[str, Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "UNet2DConditionModel": {
            "class_embed_type": (None,),  # upscalers, variations by unCLIP
            "num_class_embeds": (None,),
            "encoder_hid_dim_type": (None, "text_proj"),  # Kandinsky, an IP-Adapter saved with it
            "addition_embed_type": (None, "text", "text_time"),
        },
        "SanaTransformer2DModel": {"guidance_embeds": (None, False)},  # Sana-Sprint
    }
)
"""Entries of a denoiser's config by its class: the values that ask for nothing beside text."""


def check_kind(folder: Path) -> None:
    """Refuse a pipeline of a kind that is not supported, by its model_index.json alone.

    Raises:
        GeneratorError: names the class, what is allowed, and the remedy.
    """
    kind = text_to_image_class(folder)
    index = read_index(folder)
    if index.get("requires_aesthetics_score"):
        raise GeneratorError(
            f"{_what(folder)} has requires_aesthetics_score in its model_index.json: it is the "
            "refiner of Stable Diffusion XL, which goes on with another's images (give the base "
            "checkpoint, such as stabilityai/stable-diffusion-xl-base-1.0)"
        )
    part, wanted = KINDS[kind]
    named = index.get(part)
    found = named[1] if isinstance(named, list) and len(named) == 2 else wanted
    # What PixArt was published with is looked at in its config.
    if found not in (wanted, "Transformer2DModel"):
        raise GeneratorError(
            f"{_what(folder)} is a {index.get('_class_name')}, but its {part!r} is a {found}, not "
            f"a {wanted} ({_BASE})"
        )


def check_configs(folder: Path) -> None:
    """Refuse what ``check_kind`` does, what is quantized, and what needs more than text.

    A part without a config is the matter of what loads it.

    Raises:
        GeneratorError: names the entry, its value, and the remedy.
    """
    check_kind(folder)
    _check_plain(folder)
    part, kind = KINDS[text_to_image_class(folder)]
    config = part_config(folder, part)
    _check_channels(folder, part, kind, config)
    for key, allowed in _TOLD.get(kind, {}).items():
        if config.get(key) not in allowed:
            raise GeneratorError(
                f"{_what(folder)} has {key}={config[key]!r} in its {part}/config.json: what it "
                f"draws from needs more than text ({_BASE})"
            )


def _check_plain(folder: Path) -> None:
    for part in parts_of(read_index(folder)):
        quantized = part_config(folder, part).get("quantization_config")
        if quantized:
            method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
            raise GeneratorError(
                f"{_what(folder)} has its {part!r} quantized ({method}, by quantization_config in "
                "its config.json), and adapters are merged into plain weights alone (give the "
                "checkpoint that it was made from; generator.precision=bf16 holds that in half)"
            )


def _check_channels(folder: Path, part: str, kind: str, config: Mapping[str, Any]) -> None:
    taken, latents = config.get("in_channels"), part_config(folder, "vae").get("latent_channels")
    if not isinstance(latents, int) or taken is None:
        return
    packed = kind == "FluxTransformer2DModel"  # two by two
    given = 4 * latents if packed else latents
    if taken == given:
        return
    use = _USES.get((taken, latents)) if isinstance(taken, int) else None
    raise GeneratorError(
        f"{_what(folder)} has a {'UNet' if part == 'unet' else part} that takes {taken} channels, "
        f"its VAE's latents have {latents}{f', packed {given}' if packed else ''}: it "
        f"{f'is {use} and ' if use else ''}needs more than text ({_BASE})"
    )


def _what(folder: Path) -> str:
    return f"the generator in {str(folder)!r}"
