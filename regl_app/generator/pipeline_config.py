"""What a pipeline's configs say before any weight is read: its class, channels, image size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regl_app.core.errors import GeneratorError
from regl_app.generator.weight_files import read_index

_TOLD_BY_CHANNELS: Mapping[int, str] = MappingProxyType(
    {5: "depth-to-image", 7: "an upscaler", 8: "for editing (pix2pix)", 9: "for inpainting"}
)
"""What a UNet is for that takes more than the four channels of Stable Diffusion's latents."""


def part_config(folder: Path, part: str) -> dict[str, Any]:
    """Return the config of a pipeline's part; empty where it is absent or damaged."""
    try:
        content = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # loading it will say so
    return content if isinstance(content, dict) else {}


def text_to_image_class(folder: Path) -> str:
    """Return the name of the text-to-image pipeline of what is in ``folder``.

    A folder saved by an image-to-image pipeline has the same parts: it is the text-to-image
    pipeline of that kind.

    Raises:
        GeneratorError: there is none of its kind.
    """
    from diffusers.pipelines import auto_pipeline

    name = read_index(folder).get("_class_name")
    # How AutoPipelineForText2Image finds it; that has no way for single files.
    kind = auto_pipeline._get_task_class(
        auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING, name, throw_error_if_not_exist=False
    )
    if kind is None:
        raise GeneratorError(
            f"the generator in {str(folder)!r} is a {name}, which is no text-to-image pipeline "
            "(give one that makes images from text alone, such as a StableDiffusionPipeline)"
        )
    return str(kind.__name__)


def check_channels(folder: Path) -> None:
    """Refuse a UNet that takes other channels than its VAE's latents have: it needs more than text.

    Raises:
        GeneratorError: names both numbers, and the remedy.
    """
    taken = part_config(folder, "unet").get("in_channels")
    given = part_config(folder, "vae").get("latent_channels")
    if taken == given or taken is None or given is None:
        return
    use = _TOLD_BY_CHANNELS.get(taken) if isinstance(taken, int) and given == 4 else None
    raise GeneratorError(
        f"the generator in {str(folder)!r} has a UNet that takes {taken} channels, its VAE's "
        f"latents have {given}: it {f'is {use} and ' if use else ''}needs more than text (give the "
        "text-to-image checkpoint that it was made from)"
    )


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
