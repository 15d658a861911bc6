"""Stable Diffusion 3 and 3.5, with or without their T5: flow matching by a joint transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from regl_app.core.types import Tensors
from regl_app.generator.families.family import (
    ATTENTION,
    FEED_FORWARD,
    TEXT_ATTENTION,
    TEXT_FEED_FORWARD,
    Family,
    Told,
    patch_size,
)
from regl_app.generator.families.settings import Settings, distilled


def _encode(pipeline: Any, texts: Sequence[str], told: Told) -> dict[str, torch.Tensor]:
    # Without a T5 the pipeline itself puts zeros in the place of its embeddings.
    embeddings, _, pooled, _ = pipeline.encode_prompt(
        list(texts), None, None, device=told.encoded_on, do_classifier_free_guidance=False
    )
    return {"embeddings": embeddings.float(), "pooled": pooled.float()}


def _predict(
    transformer: Any, latents: torch.Tensor, timesteps: torch.Tensor, told: Tensors
) -> torch.Tensor:
    prediction: torch.Tensor = transformer(
        latents,
        encoder_hidden_states=told["embeddings"],
        pooled_projections=told["pooled"],
        timestep=timesteps.expand(len(latents)),
        return_dict=False,
    )[0]
    return prediction


def _most_side(transformer: Any) -> int | None:
    """Return the side of the table of places, in latents."""
    squares = getattr(transformer.config, "pos_embed_max_size", None)
    return None if squares is None else int(squares) * patch_size(transformer)


def _settings(transformer: Mapping[str, Any], _scheduler: Mapping[str, Any]) -> Settings:
    plain = Settings("Stable Diffusion 3", steps=28, guidance=7.0)
    # 3.5 Large Turbo has the very configuration of 3.5 Large, scheduler included.
    return distilled(plain.name, transformer, {}) or plain


SD3 = Family(
    part="transformer",
    layers=MappingProxyType(
        {
            "attention": (*ATTENTION, *TEXT_ATTENTION),
            "convolution": ("pos_embed.proj", *FEED_FORWARD, "proj_out"),
            "text": TEXT_FEED_FORWARD,
        }
    ),
    encode=_encode,
    predict=_predict,
    settings=_settings,
    patch=patch_size,
    most_side=_most_side,
)
