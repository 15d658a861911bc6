"""What a single file without a denoiser seems to be, by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_DENOISER = "model.diffusion_model."
_BY_ONE: Mapping[str, str] = MappingProxyType(
    {
        r"control_model\.|controlnet_|input_hint_block\.|lllite_": "a ControlNet",
        r"image_proj\.|ip_adapter\.": "an IP-Adapter, which generator.ip-adapter takes",
        r".*\bmotion_modules\.": "a motion module of AnimateDiff",
    }
)
"""What one name begins with is enough to tell."""
_BY_ALL: Mapping[str, str] = MappingProxyType(
    {
        r"emb_params$|string_to_param|clip_[lg]$|<.+>$": "a textual inversion",
        r"(down_blocks|up_blocks|mid_block|time_embedding|add_embedding|conv_\w+)\.": (
            "a UNet alone, in diffusers' names"
        ),
        r"(first_stage_model|vae|quant_conv|post_quant_conv)\."
        r"|(en|de)coder\.(conv_|norm_|down|mid|up)": "a VAE alone",
        r"(cond_stage_model|conditioner|text_encoders|text_model|text_projection|logit_scale|shared)\b"
        r"|encoder\.(block|embed_tokens|final_layer_norm)\.": "a text encoder alone",
    }
)
"""What all names begin with: whole checkpoints have such names, too, beside a denoiser's."""
_OF_UNETS = frozenset({"v1", "xl_base", "xl_refiner", "playground-v2-5"})
"""What diffusers takes a file for by no denoiser's tensor; the first, where it knows none."""


def seems_to_be(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return what a file without a denoiser seems to be; '' where it has one.

    Args:
        tensors: of the file, by name, with their shapes.
    """
    if any(name.startswith(_DENOISER) for name in tensors):
        return ""
    for pattern, kind in _BY_ONE.items():
        if any(re.match(pattern, name) for name in tensors):
            return kind
    for pattern, kind in _BY_ALL.items():
        if tensors and all(re.match(pattern, name) for name in tensors):
            return kind
    return "" if _is_known(tensors) else f"of another kind, {_some(tensors)}"


def _is_known(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Return whether diffusers knows a denoiser that is no UNet by its bare names (FLUX)."""
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    return infer_diffusers_model_type(tensors) not in _OF_UNETS


def _some(names: Collection[str]) -> str:
    return f"with tensors such as {min(names)!r}" if names else "without any tensor"
