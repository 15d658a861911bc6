"""What large checkpoints need of a card's memory: `python benchmarks/memory.py`.

Denoisers and autoencoders of public configurations, written out here, without a weight: nothing is
downloaded and nothing computed. What lives at one time in drawing with an adapter and in tuning
one, with the batches that 'auto' means, is added up by shapes
(``regl_app/generator/memory_needs.py``): fused attention, bf16 weights, low-rank weights in
float32, norms as by CUDA's autocast. No card was asked. Some minutes of one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapes import SHAPES, quiet
from table import machine_facts, machine_line

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.files import write_json, write_text
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import (
    ASIDE,
    DrawingNeeds,
    TuningNeeds,
    drawing_needs,
    preference_needs,
    tuning_needs,
)
from regl_app.generator.without_weights import Bare, without_weights
from regl_app.runs.comparison.tables import markdown_table

RESULT = Path(__file__).resolve().parent / "results" / "memory.md"
CARDS = (8, 12, 16, 24, 48, 80)
_VAE_16: Mapping[str, Any] = {
    **SHAPES["sdxl"].vae,
    "latent_channels": 16,
    "force_upcast": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


BARE: Mapping[str, Bare] = {
    "Stable Diffusion 1.5": Bare(
        "UNet2DConditionModel",
        SHAPES["sd15"].unet,
        SHAPES["sd15"].vae,
        size=512,
    ),
    "Stable Diffusion XL": Bare(
        "UNet2DConditionModel",
        SHAPES["sdxl"].unet,
        SHAPES["sdxl"].vae,
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
    ),
    "FLUX.1 dev": Bare(
        "FluxTransformer2DModel",
        {"guidance_embeds": True},  # the rest are its defaults
        _VAE_16,
    ),
}


def main() -> None:
    """Count for every shape, write the table."""
    quiet()
    machine = machine_facts()
    rows, found = [], {}
    for name, bare in BARE.items():
        foundation = without_weights(bare)
        drawing, tuning, preferences, keys = counted(bare, foundation)
        works = {
            "weights": drawing.weights,
            **_works(drawing, tuning, preferences, keys),
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


def counted(
    bare: Bare, foundation: Foundation
) -> tuple[DrawingNeeds, TuningNeeds, TuningNeeds, dict[str, Any]]:
    """Return what a checkpoint needs with the keys that 'auto' means, and these."""
    settings = FAMILIES[bare.kind].settings(bare.denoiser, bare.scheduler)
    keys: dict[str, Any] = settings.keys(bare.size)
    config = GeneratorConfig(guidance=keys["generator.guidance"])
    lora = LoraConfig(rank=keys["lora.rank"], alpha=keys["lora.alpha"], layers=keys["lora.layers"])
    drawing = drawing_needs(foundation, config, lora)
    return drawing, tuning_needs(foundation, lora), preference_needs(foundation, lora), keys


def _works(
    drawing: DrawingNeeds, tuning: TuningNeeds, preferences: TuningNeeds, keys: Mapping[str, Any]
) -> dict[str, int]:
    """Return the bytes of each work with the weights."""
    beside = {
        "draw": drawing.of(int(keys["generator.batch-size"])) + drawing.merged,
        "draw one": drawing.of(1) + drawing.merged,
        "tune": tuning.step.of(int(keys["lora.batch-size"])),
        "tune one": tuning.step.one,
        "tune one, checkpointed": tuning.least,
        "prefer": preferences.step.of(int(keys["dpo.batch-size"])),
        "prefer one": preferences.step.one,
        "prefer one, checkpointed": preferences.least,
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
