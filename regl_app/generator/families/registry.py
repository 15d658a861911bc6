"""Families by the class of their denoiser: a new family is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from regl_app.generator.families.family import Family
from regl_app.generator.families.flux import FLUX
from regl_app.generator.families.pixart import PIXART
from regl_app.generator.families.sana import SANA
from regl_app.generator.families.sd3 import SD3
from regl_app.generator.families.unet import UNET

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "UNet2DConditionModel": UNET,
        "PixArtTransformer2DModel": PIXART,
        "SD3Transformer2DModel": SD3,
        "SanaTransformer2DModel": SANA,
        "FluxTransformer2DModel": FLUX,
    }
)
"""Families by their denoiser's class in diffusers."""

PARTS = tuple(dict.fromkeys(family.part for family in FAMILIES.values()))
"""What a denoiser may be called: in a pipeline, in its folder, in a LoRA file."""


def family_of(pipeline: Any) -> Family | None:
    """Return the family of a pipeline's denoiser; None: of no known one."""
    for part in PARTS:
        family = FAMILIES.get(type(getattr(pipeline, part, None)).__name__)
        if family is not None and family.part == part:
            return family
    return None
