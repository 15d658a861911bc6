"""What a pipeline's configs say before any weight is read: its kind, its parts, image size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regl_app.core.errors import GeneratorError
from regl_app.generator.weight_files import read_index

_UNET, _PIXART = "UNet2DConditionModel", "PixArtTransformer2DModel"
KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "StableDiffusionPipeline": ("unet", _UNET),
        "StableDiffusionXLPipeline": ("unet", _UNET),
        "LatentConsistencyModelPipeline": ("unet", _UNET),
        "StableDiffusion3Pipeline": ("transformer", "SD3Transformer2DModel"),
        "PixArtAlphaPipeline": ("transformer", _PIXART),
        "PixArtSigmaPipeline": ("transformer", _PIXART),
        "SanaPipeline": ("transformer", "SanaTransformer2DModel"),
        "FluxPipeline": ("transformer", "FluxTransformer2DModel"),
    }
)
"""The pipelines that are drawn from, and the part and class of their denoisers."""
_SAME_PARTS = re.compile(r"(?P<kind>\w+?)(PAG)?(Img2Img|Inpaint)?Pipeline")
"""What one checkpoint is saved as, by the task that it was loaded for."""
_OLD_PIXART = ("Transformer2DModel", "ada_norm_single")
"""Class and ``norm_type`` in the config of PixArt's transformer as it was published."""


def part_config(folder: Path, part: str) -> dict[str, Any]:
    """Return the config of a pipeline's part; empty where it is absent or damaged."""
    try:
        content = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # loading it will say so
    if not isinstance(content, dict):
        return {}
    if (content.get("_class_name"), content.get("norm_type")) == _OLD_PIXART:
        content["_class_name"] = _PIXART  # as diffusers loads it
    return content


def vae_factor(vae: Mapping[str, Any]) -> int:
    """Return how many pixels a side one latent stands for, by an autoencoder's configuration."""
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0] * 4
    factor: int = 2 ** (len(blocks) - 1)
    return factor


def native_side(denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """Return the side of a checkpoint's images in pixels, as its pipeline would have it."""
    sample = denoiser.get("sample_size") or 128  # FLUX names none, and its pipeline takes this
    latent = int(max(sample) if isinstance(sample, list) else sample)
    return latent * vae_factor(vae)


def scheduler_config(folder: Path) -> dict[str, Any]:
    """Return the config of a pipeline's scheduler; empty where it is absent or damaged."""
    try:
        text = (folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError):
        return {}  # loading it will say so
    return content if isinstance(content, dict) else {}


def solver_class(folder: Path) -> Any:
    """Return the class of a pipeline's scheduler; None: diffusers has none of its name."""
    import diffusers

    return getattr(diffusers, str(scheduler_config(folder).get("_class_name")), None)


def text_to_image_class(folder: Path) -> str:
    """Return the name of the text-to-image pipeline of what is in ``folder``, of ``KINDS``.

    A folder saved by an image-to-image pipeline has the same parts: it is the text-to-image
    pipeline of that kind.

    Raises:
        GeneratorError: there is none of its kind.
    """
    name = read_index(folder).get("_class_name")
    match = _SAME_PARTS.fullmatch(str(name))
    kind = f"{match['kind']}Pipeline" if match else ""
    if kind not in KINDS:
        raise GeneratorError(
            f"the generator in {str(folder)!r} is a {name}, which is no text-to-image pipeline of "
            f"a supported kind; allowed are {', '.join(KINDS)} (give one of these: that which it "
            "was made from, if it is steered by pictures or edits them)"
        )
    return kind


def own_image_size(side: Any, factor: int, path: str) -> int:
    """Return the side of the images that a denoiser was made for, in pixels.

    Args:
        side: of its latents, as its config says it: a number, several, or nothing.
        factor: pixels of an image per latent's, along a side.
        path: ``generator.path``, for the error.

    Raises:
        GeneratorError: it does not say, or they are no squares.
    """
    if isinstance(side, list | tuple) and len(set(side)) == 1:
        side = side[0]
    if isinstance(side, int) and side > 0:
        return side * factor
    told = "says no size" if side is None else f"is made for latents of {side}, no squares"
    raise GeneratorError(
        f"generator.image-size=0 takes the model's own size, and generator.path {path!r} {told} "
        f"(set generator.image-size in pixels, a multiple of {factor}, for example 512)"
    )
