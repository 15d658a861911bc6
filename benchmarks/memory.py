"""What large checkpoints need of a card's memory: `python benchmarks/memory.py`.

Denoisers and autoencoders of public configurations, written out here, without a weight: nothing is
downloaded and nothing computed. What lives at one time in drawing with an adapter and in tuning
one, with the batches that 'auto' means, is added up by shapes
(``regl_app/generator/memory_needs.py``): fused attention, bf16 weights, low-rank weights in
float32, norms as by CUDA's autocast. No card was asked. Some minutes of one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from shapes import SHAPES, quiet
from table import machine_facts, machine_line

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.files import write_json, write_text
from regl_app.core.precision import DTYPES
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_prompts import ImagePromptSlot
from regl_app.generator.memory_needs import (
    ASIDE,
    DrawingNeeds,
    TuningNeeds,
    drawing_needs,
    tuning_needs,
)
from regl_app.generator.placement import Placement
from regl_app.generator.prompts import PromptRows, TextConditioning
from regl_app.runs.comparison.tables import markdown_table

RESULT = Path(__file__).resolve().parent / "results" / "memory.md"
CARDS = (8, 12, 16, 24, 48, 80)
_META = torch.device("meta")
_VAE_16: Mapping[str, Any] = {
    **SHAPES["sdxl"].vae,
    "latent_channels": 16,
    "force_upcast": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_T5 = {"embeddings": (77 + 256, 4096), "pooled": (2048,)}


@dataclass(frozen=True)
class Bare:
    """A checkpoint's denoiser and autoencoder, of which only the configurations are known.

    Args:
        kind: the denoiser's class.
        denoiser: its configuration.
        vae: likewise.
        told: shapes of an image's conditioning, by name.
        size: side of its images, in pixels.
        vae_kind: the autoencoder's class.
        factor: pixels a side that one latent stands for.
        scheduler: what 'auto' is told by.
    """

    kind: str
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]
    told: Mapping[str, tuple[int, ...]]
    size: int = 1024
    vae_kind: str = "AutoencoderKL"
    factor: int = 8
    scheduler: Mapping[str, Any] = field(default_factory=dict)


BARE: Mapping[str, Bare] = {
    "Stable Diffusion 1.5": Bare(
        "UNet2DConditionModel",
        SHAPES["sd15"].unet,
        SHAPES["sd15"].vae,
        {"embeddings": (77, 768)},
        size=512,
    ),
    "Stable Diffusion XL": Bare(
        "UNet2DConditionModel",
        SHAPES["sdxl"].unet,
        SHAPES["sdxl"].vae,
        {"embeddings": (77, 2048), "pooled": (1280,), "time_ids": (6,)},
    ),
    "PixArt-Sigma XL": Bare(
        "PixArtTransformer2DModel",
        {
            "num_layers": 28,
            "sample_size": 128,
            "caption_channels": 4096,
            "interpolation_scale": 2,
            "use_additional_conditions": False,
        },
        SHAPES["sdxl"].vae,
        {"embeddings": (300, 4096), "mask": (300,)},
    ),
    "Sana 1.6B": Bare(
        "SanaTransformer2DModel",
        {},  # its defaults are those of this size
        {
            "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
            "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
            "decoder_layers_per_block": (3,) * 6,
            "encoder_qkv_multiscales": ((),) * 3 + ((5,),) * 3,
            "decoder_qkv_multiscales": ((),) * 3 + ((5,),) * 3,
            "downsample_block_type": "Conv",
            "upsample_block_type": "interpolate",
            "latent_channels": 32,
            "scaling_factor": 0.41407,
        },
        {"embeddings": (300, 2304), "mask": (300,)},
        vae_kind="AutoencoderDC",
        factor=32,
    ),
    "Stable Diffusion 3.5 medium": Bare(
        "SD3Transformer2DModel",
        {
            "sample_size": 128,
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 384,
            "out_channels": 16,
            "qk_norm": "rms_norm",
            "dual_attention_layers": tuple(range(13)),
        },
        _VAE_16,
        _T5,
    ),
    "Stable Diffusion 3.5 large": Bare(
        "SD3Transformer2DModel",
        {
            "sample_size": 128,
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "out_channels": 16,
            "qk_norm": "rms_norm",
        },
        _VAE_16,
        _T5,
    ),
    "FLUX.1 dev": Bare(
        "FluxTransformer2DModel",
        {"guidance_embeds": True},  # the rest are its defaults
        _VAE_16,
        {"embeddings": (512, 4096), "pooled": (768,), "guidance": ()},
    ),
}


def main() -> None:
    """Count for every shape, write the table."""
    quiet()
    machine = machine_facts()
    rows, found = [], {}
    for name, bare in BARE.items():
        foundation = without_weights(bare)
        drawing, tuning, keys = counted(bare, foundation)
        works = {
            "weights": drawing.weights,
            **_works(drawing, tuning, keys),
        }
        weights = sum(each.numel() for each in foundation.denoiser.parameters())
        found[name] = {"parameters": weights, **{key: n / 1e9 for key, n in works.items()}}
        batches = (str(keys[f"{part}.batch-size"]) for part in ("generator", "lora", "dpo"))
        numbers = [f"{size / 1e9:.1f}" for size in works.values()]
        rows.append([name, *numbers, " / ".join(batches), *_cards(works)])
        print(name, found[name], flush=True)
    heads = [
        "checkpoint",
        "weights",
        "draw a batch",
        "draw one",
        "tune a batch",
        "tune one",
        "tune one, checkpointed",
        "prefer a batch",
        "prefer one",
        "prefer one, checkpointed",
        "batches",
        "card for LoRA",
        "one by one",
    ]
    text = (
        "GB of a card's memory, weights included, counted and not measured; "
        "`python benchmarks/memory.py`\n\n"
        f"{markdown_table(heads, rows)}\n\n{machine_line(machine)}\n"
    )
    write_text(RESULT, text)
    write_json(RESULT.with_suffix(".json"), {"gigabytes": found, "machine": machine})
    print(text)


def counted(bare: Bare, foundation: Foundation) -> tuple[DrawingNeeds, TuningNeeds, dict[str, Any]]:
    """Return what a checkpoint needs with the keys that 'auto' means, and these."""
    settings = FAMILIES[bare.kind].settings(bare.denoiser, bare.scheduler)
    keys: dict[str, Any] = settings.keys(bare.size)
    config = GeneratorConfig(guidance=keys["generator.guidance"])
    lora = LoraConfig(rank=keys["lora.rank"], alpha=keys["lora.alpha"], layers=keys["lora.layers"])
    return drawing_needs(foundation, config, lora), tuning_needs(foundation, lora), keys


def without_weights(bare: Bare) -> Foundation:
    """Return a generator of ``bare``'s shape on the meta device, its weights in bf16."""
    import diffusers

    with _META:
        denoiser = getattr(diffusers, bare.kind)(**bare.denoiser)
        vae = getattr(diffusers, bare.vae_kind)(**bare.vae)
        told = {
            name: torch.ones(2, *shape, dtype=torch.int64 if name == "mask" else torch.float32)
            for name, shape in bare.told.items()
        }
    for part in (denoiser, vae):
        part.requires_grad_(False)
        for weight in part.parameters():
            weight.data = weight.data.to(DTYPES["bf16"])
        for module in part.modules():  # what a checkpoint's file has is of its type, too
            for name, buffer in module._buffers.items():
                kept = buffer is not None and name not in module._non_persistent_buffers_set
                if kept and buffer.is_floating_point():
                    module._buffers[name] = buffer.to(DTYPES["bf16"])
    family = FAMILIES[bare.kind]
    adapters = AdapterSlot(denoiser, family.part, _META)
    return Foundation(
        denoiser=denoiser,
        family=family,
        vae=vae,
        scheduler=None,
        text=TextConditioning(told),
        prompts=("one", "two"),
        prompt_rows=PromptRows.of([["one"], ["two"]]),
        digest="",
        device=_META,
        precision="bf16",
        image_size=bare.size,
        factor=bare.factor,
        adapters=adapters,
        image_prompts=ImagePromptSlot(denoiser),
        placement=Placement(denoiser, vae, adapters, _META, "", "bf16"),
        held="bf16",
    )


def _works(drawing: DrawingNeeds, tuning: TuningNeeds, keys: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes of each work with the weights."""
    beside = {
        "draw": drawing.of(int(keys["generator.batch-size"])) + drawing.merged,
        "draw one": drawing.of(1) + drawing.merged,
        "tune": tuning.images.of(int(keys["lora.batch-size"])),
        "tune one": tuning.images.one,
        "tune one, checkpointed": tuning.least_image,
        "prefer": tuning.pairs.of(int(keys["dpo.batch-size"])),
        "prefer one": tuning.pairs.one,
        "prefer one, checkpointed": tuning.least_pair,
    }
    return {name: drawing.weights + more for name, more in beside.items()}


def _cards(works: Mapping[str, int]) -> list[str]:
    """Return the smallest cards that hold LoRA's batches, and one at a time, checkpointed."""
    ways = (("draw", "tune"), ("draw one", "tune one, checkpointed"))
    return [
        next((f"{card} GB" for card in CARDS if most + ASIDE <= card * 1e9), f"> {CARDS[-1]} GB")
        for most in (max(works[name] for name in names) for names in ways)
    ]


if __name__ == "__main__":
    main()
