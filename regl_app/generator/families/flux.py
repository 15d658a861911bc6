"""FLUX.1 schnell and dev: flow matching over latents packed two by two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from regl_app.core.types import Tensors
from regl_app.generator.families.family import (
    ATTENTION,
    FEED_FORWARD,
    TEXT_ATTENTION,
    TEXT_FEED_FORWARD,
    TIMESTEPS,
    Family,
    Told,
    shift_by_size,
)
from regl_app.generator.families.settings import Settings, distilled

_PATCH = 2
_MOST_SHIFT = 1.15


def _encode(pipeline: Any, texts: Sequence[str], told: Told) -> dict[str, torch.Tensor]:
    most = _text_tokens(pipeline.transformer)
    length = {"max_sequence_length": most} if most else {}
    embeddings, pooled, _ = pipeline.encode_prompt(list(texts), device=told.encoded_on, **length)
    conditioning = {"embeddings": embeddings.float(), "pooled": pooled.float()}
    if _embeds_guidance(pipeline.transformer):
        conditioning["guidance"] = torch.full((len(texts),), told.guidance)
    return conditioning


def _predict(
    transformer: Any, latents: torch.Tensor, timesteps: torch.Tensor, told: Tensors
) -> torch.Tensor:
    count, channels, high, wide = latents.shape
    embeddings = told["embeddings"]
    packed: torch.Tensor = transformer(
        hidden_states=pack(latents),
        timestep=timesteps.expand(count).float() / TIMESTEPS,
        guidance=told.get("guidance"),
        pooled_projections=told["pooled"],
        encoder_hidden_states=embeddings,
        txt_ids=torch.zeros(embeddings.shape[1], 3, device=latents.device),
        img_ids=_places(high // _PATCH, wide // _PATCH, latents.device),
        return_dict=False,
    )[0]
    return unpack(packed, (count, channels, high, wide))


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Return a sequence ``(N, h/2 w/2, 4 c)`` of squares of two by two of ``(N, c, h, w)``."""
    count, channels, high, wide = latents.shape
    squares = latents.reshape(count, channels, high // _PATCH, _PATCH, wide // _PATCH, _PATCH)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(
        count, (high // _PATCH) * (wide // _PATCH), channels * _PATCH**2
    )


def unpack(packed: torch.Tensor, shape: tuple[int, int, int, int]) -> torch.Tensor:
    """Return the latents of ``shape`` (N, c, h, w) that ``pack`` made a sequence of."""
    count, channels, high, wide = shape
    squares = packed.reshape(count, high // _PATCH, wide // _PATCH, channels, _PATCH, _PATCH)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(shape)


def _places(high: int, wide: int, device: torch.device) -> torch.Tensor:
    """Return the place of each square, ``(high * wide, 3)``: 0, row, column."""
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1)
    return places.reshape(-1, 3).float().to(device)


def _latent_shape(transformer: Any, side: int) -> tuple[int, int, int]:
    return int(transformer.config.in_channels) // _PATCH**2, side, side


def _embeds_guidance(transformer: Any) -> bool:
    return bool(getattr(transformer.config, "guidance_embeds", False))


def _text_tokens(transformer: Any) -> int | None:
    """Return 256 for schnell, as its reference and diffusers' page of FLUX have it."""
    return None if _embeds_guidance(transformer) else 256


def _sample_size(pipeline: Any, _part: str) -> int:
    return int(pipeline.default_sample_size)


def _patch(_transformer: Any) -> int:
    return _PATCH


def _solver(scheduler: Any, steps: int, tokens: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"mu": shift_by_size(scheduler, tokens, _MOST_SHIFT)}
    if scheduler.config.get("use_flow_sigmas"):
        return {**arguments, "num_inference_steps": steps}
    return {**arguments, "sigmas": np.linspace(1.0, 1 / steps, steps)}


def _settings(transformer: Mapping[str, Any], _scheduler: Mapping[str, Any]) -> Settings:
    if transformer.get("guidance_embeds"):
        dev = Settings("FLUX.1 dev", steps=28, guidance=3.5)
        # Turbo and Hyper are dev with a LoRA merged: same configuration, guidance still embedded.
        return distilled(dev.name, transformer, {}, steps=8, guidance=dev.guidance) or dev
    return Settings("FLUX.1 schnell", steps=4, guidance=1.0)


FLUX = Family(
    part="transformer",
    layers=MappingProxyType(
        {
            "attention": (*ATTENTION, *TEXT_ATTENTION),
            "convolution": (*FEED_FORWARD, "proj_mlp", "proj_out"),
            "text": TEXT_FEED_FORWARD,
        }
    ),
    encode=_encode,
    predict=_predict,
    settings=_settings,
    latent_shape=_latent_shape,
    patch=_patch,
    embeds_guidance=_embeds_guidance,
    text_tokens=_text_tokens,
    sample_size=_sample_size,
    solver=_solver,
)
