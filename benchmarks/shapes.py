"""Pipelines of public shapes with random weights: what `python benchmarks/gpu.py` measures on.

The shapes are those of the public configurations (``config.json`` of Stable Diffusion 1.5 and of
Stable Diffusion XL base 1.0), written out here, so that nothing is downloaded. Only the tokenizer
is another, a small one of single bytes: sequences have the same 77 places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_CLIP_L: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
_CLIP_BIG_G: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
_TINY_UNET: Mapping[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
_TINY_VAE: Mapping[str, Any] = {
    **_VAE,
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 32,
}
_TINY_TEXT: Mapping[str, Any] = {
    **_CLIP_L,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
}
_NOISE: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
_TEXT_PLACES, _TEXT_TOKENS = 77, 49408


@dataclass(frozen=True)
class Shape:
    """One kind of Stable Diffusion: what its parts' configurations say.

    Args:
        size: side of its own images, in pixels.
        unet: of the denoiser.
        vae: of the autoencoder.
        texts: of the text encoders, one, or two for an XL.
        scheduler: class and configuration.
        vocabulary: rows of the text encoders' table of tokens.
    """

    size: int
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    texts: tuple[Mapping[str, Any], ...]
    scheduler: tuple[str, Mapping[str, Any]]
    vocabulary: int = _TEXT_TOKENS

    def parts(self, tokenizer: Any = None) -> dict[str, Any]:
        """Return denoiser, VAE and text encoders with random weights of the global generator."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        special = {}
        if tokenizer is not None:
            special = {
                name: getattr(tokenizer, name)
                for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            }
        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        encoders = [
            kind(
                CLIPTextConfig(
                    vocab_size=self.vocabulary,
                    max_position_embeddings=_TEXT_PLACES,
                    **text,
                    **special,
                )
            )
            for kind, text in zip(kinds, self.texts, strict=False)
        ]
        return {
            "unet": UNet2DConditionModel(**self.unet),
            "vae": AutoencoderKL(**self.vae),
            **dict(zip(("text_encoder", "text_encoder_2"), encoders, strict=False)),
        }


SHAPES: Mapping[str, Shape] = {
    "sd15": Shape(
        size=512,
        unet={
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            "layers_per_block": 2,
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        vae={**_VAE, "sample_size": 512, "scaling_factor": 0.18215},
        texts=(_CLIP_L,),
        scheduler=(
            "PNDMScheduler",
            {**_NOISE, "skip_prk_steps": True, "set_alpha_to_one": False},
        ),
    ),
    "sdxl": Shape(
        size=1024,
        unet={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
            "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
            "layers_per_block": 2,
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae={**_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
        texts=(_CLIP_L, _CLIP_BIG_G),
        scheduler=("EulerDiscreteScheduler", {**_NOISE, "timestep_spacing": "leading"}),
    ),
    # Of their makes, small enough for a processor: to see that all of it runs.
    "tiny": Shape(
        size=32,
        unet={
            **_TINY_UNET,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 32,
            "attention_head_dim": 4,
        },
        vae={**_TINY_VAE, "scaling_factor": 0.18215},
        texts=(_TINY_TEXT,),
        scheduler=(
            "PNDMScheduler",
            {**_NOISE, "skip_prk_steps": True, "set_alpha_to_one": False},
        ),
        vocabulary=600,
    ),
    "tiny-xl": Shape(
        size=32,
        unet={
            **_TINY_UNET,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "cross_attention_dim": 64,
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
        },
        vae={**_TINY_VAE, "scaling_factor": 0.13025, "force_upcast": True},
        texts=(_TINY_TEXT, {**_TINY_TEXT, "hidden_act": "gelu"}),
        scheduler=("EulerDiscreteScheduler", {**_NOISE, "timestep_spacing": "leading"}),
        vocabulary=600,
    ),
}


def build(shape: Shape, folder: Path, device: torch.device) -> None:
    """Write a pipeline of ``shape``, in half precision as they are handed out, to ``folder``.

    Its weights are drawn on ``device``, where billions of them take seconds.
    """
    import diffusers
    from transformers import CLIPTokenizer

    name, settings = shape.scheduler
    vocabulary = _single_bytes()
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=_TEXT_PLACES)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.device(device):
        torch.manual_seed(0)
        parts = shape.parts(tokenizer)
    parts |= {"scheduler": getattr(diffusers, name)(**settings), "tokenizer": tokenizer}
    if len(shape.texts) > 1:
        pipeline = diffusers.StableDiffusionXLPipeline(
            **parts, tokenizer_2=tokenizer, force_zeros_for_empty_prompt=True
        )
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **parts,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)


def quiet() -> None:
    """Keep the libraries' bars and warnings out of the table."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for each in (diffusers_logging, transformers_logging):
        each.set_verbosity_error()
        each.disable_progress_bar()


def _single_bytes() -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}
