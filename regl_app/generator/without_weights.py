"""A generator of which only the configurations are read: its layers, their shapes, no weight.

What memory it needs can be counted so (``memory_needs.py``) before anything large is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.precision import DTYPES, Precision
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.card_precision import precision_on
from regl_app.generator.checkpoint import configs_of
from regl_app.generator.denoiser_shapes import denoiser_class
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.fitting import fit_of
from regl_app.generator.foundation import Foundation
from regl_app.generator.held_weights import held_precision
from regl_app.generator.image_prompts import ImagePromptSlot
from regl_app.generator.pipeline_config import part_config, text_to_image_class, vae_factor
from regl_app.generator.placement import Placement
from regl_app.generator.prompts import PromptRows, TextConditioning
from regl_app.generator.quiet import quiet

_META = torch.device("meta")
_T5, _LONG_T5 = 256, 512
"""Places of a prompt, as the pipelines have them."""
_CAPTION, _ALPHA = 300, 120
"""Likewise of Sana and PixArt-Sigma, and of PixArt-Alpha."""
_ALPHA_PIPELINE = "PixArtAlphaPipeline"
_SIZES = 6
"""What Stable Diffusion XL is told of size and crop."""
_FAILS = (TypeError, ValueError, RuntimeError, AttributeError, LookupError)
"""What diffusers raises of a configuration that it cannot build."""


@dataclass(frozen=True)
class Bare:
    """A checkpoint's denoiser and autoencoder, of which only the configurations are known.

    Args:
        kind: the denoiser's class.
        denoiser: its configuration.
        vae: likewise.
        size: side of its images, in pixels.
        vae_kind: the autoencoder's class.
        factor: pixels a side that one latent stands for.
        scheduler: what 'auto' is told by.
        clip_places: places of a prompt in CLIP.
        caption_places: likewise in Sana's Gemma and PixArt's T5.
    """

    kind: str
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]
    size: int = 1024
    vae_kind: str = "AutoencoderKL"
    factor: int = 8
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    clip_places: int = 77
    caption_places: int = _CAPTION


def foundation_of_configs(
    checkpoint: Path, config: GeneratorConfig, device: torch.device, prompts: int = 1
) -> Foundation:
    """Return the generator that ``Foundation.load`` would load, without a weight.

    Args:
        checkpoint: what ``resolve_generator`` returned.
        config: precision, and side of the images.
        device: that it would be on; on a GPU the meta device stands for it.
        prompts: that it is to know, beside the empty or negative one.

    Raises:
        GeneratorError: its configurations cannot be read, or nothing can be built of them.
    """
    folder = configs_of(checkpoint)
    part, kind = denoiser_class(checkpoint)
    vae = part_config(folder, "vae")
    precision = precision_on(config.precision, device, checkpoint)
    bare = Bare(
        kind,
        part_config(folder, part),
        vae,
        fit_of(checkpoint, config.image_size).side,
        str(vae.get("_class_name", "AutoencoderKL")),
        vae_factor(vae),
        clip_places=int(part_config(folder, "text_encoder").get("max_position_embeddings", 77)),
        caption_places=_ALPHA if text_to_image_class(folder) == _ALPHA_PIPELINE else _CAPTION,
    )
    held = held_precision(checkpoint, precision)
    place = device if device.type == "cpu" else _META
    try:
        with quiet():
            return without_weights(bare, precision, held, place, prompts)
    except _FAILS as error:
        raise GeneratorError(
            f"nothing can be built of the configurations of {str(checkpoint)!r}: {error}"
        ) from error


def without_weights(
    bare: Bare,
    precision: Precision = "bf16",
    held: Precision = "bf16",
    device: torch.device = _META,
    prompts: int = 1,
) -> Foundation:
    """Return a generator of ``bare``'s shape for ``device``, all its tensors on the meta device.

    Args:
        bare: the configurations.
        precision: that it is run in.
        held: what the denoiser's weights are in.
        device: the processor, or the meta device, which stands for a card.
        prompts: beside the empty one.
    """
    import diffusers

    family = FAMILIES[bare.kind]
    with _META:
        denoiser = getattr(diffusers, bare.kind).from_config(dict(bare.denoiser))
        vae = getattr(diffusers, bare.vae_kind).from_config(dict(bare.vae))
        told = {
            name: torch.ones(
                prompts + 1, *shape, dtype=torch.int64 if name == "mask" else torch.float32
            )
            for name, shape in told_shapes(bare, denoiser).items()
        }
    adapters = AdapterSlot(denoiser, family.part, device)
    foundation = Foundation(
        denoiser=denoiser,
        family=family,
        vae=vae,
        scheduler=None,
        text=TextConditioning(told),
        prompts=("one", "two"),
        prompt_rows=PromptRows.of([["one"], ["two"]]),
        digest="",
        device=device,
        precision=precision,
        image_size=bare.size,
        factor=bare.factor,
        adapters=adapters,
        image_prompts=ImagePromptSlot(denoiser),
        placement=Placement(denoiser, vae, adapters, device, "", held),
        held=held,
    )
    _hold(denoiser, held)
    _hold(vae, foundation.vae_held)
    return foundation


def told_shapes(bare: Bare, denoiser: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what ``bare``'s ``denoiser`` is told with an image, by name."""
    kind, config = bare.kind, denoiser.config
    if kind == "UNet2DConditionModel":
        told: dict[str, tuple[int, ...]] = {
            "embeddings": (bare.clip_places, config.cross_attention_dim)
        }
        if config.addition_embed_type == "text_time":
            sizes = _SIZES * config.addition_time_embed_dim
            pooled = config.projection_class_embeddings_input_dim - sizes
            told |= {"pooled": (pooled,), "time_ids": (_SIZES,)}
        if config.time_cond_proj_dim is not None:
            told["guidance"] = (config.time_cond_proj_dim,)
        return told
    if kind in ("SD3Transformer2DModel", "FluxTransformer2DModel"):
        long = FAMILIES[kind].text_tokens(denoiser) or _LONG_T5
        places = bare.clip_places + _T5 if kind.startswith("SD3") else long
        told = {
            "embeddings": (places, config.joint_attention_dim),
            "pooled": (config.pooled_projection_dim,),
        }
        return told | ({"guidance": ()} if config.get("guidance_embeds") else {})
    told = {
        "embeddings": (bare.caption_places, config.caption_channels),
        "mask": (bare.caption_places,),
    }
    if getattr(denoiser, "use_additional_conditions", False):
        told |= {"resolution": (2,), "aspect_ratio": (1,)}
    return told


def _hold(part: Any, held: Precision) -> None:
    part.requires_grad_(False)
    part.eval()
    for weight in part.parameters():
        weight.data = weight.data.to(DTYPES[held])
    for module in part.modules():  # what a checkpoint's file has is of its type, too
        for name, buffer in module._buffers.items():
            kept = buffer is not None and name not in module._non_persistent_buffers_set
            if kept and buffer.is_floating_point():
                module._buffers[name] = buffer.to(DTYPES[held])
