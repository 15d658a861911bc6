"""PixArt-Alpha and PixArt-Sigma: a transformer with cross-attention to T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from regl_app.core.types import Tensors
from regl_app.generator.families.family import (
    ATTENTION,
    FEED_FORWARD,
    Family,
    Told,
    patch_size,
)
from regl_app.generator.families.settings import Settings, distilled


def _encode(pipeline: Any, texts: Sequence[str], told: Told) -> dict[str, torch.Tensor]:
    embeddings, mask, *_ = pipeline.encode_prompt(
        list(texts),
        device=told.encoded_on,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    conditioning = {"embeddings": embeddings.float(), "mask": mask}
    if pipeline.transformer.use_additional_conditions:  # PixArt-Alpha at 1024 pixels
        conditioning["resolution"] = torch.full((len(texts), 2), float(told.image_size))
        conditioning["aspect_ratio"] = torch.ones(len(texts), 1)
    return conditioning


def _predict(
    transformer: Any, latents: torch.Tensor, timesteps: torch.Tensor, told: Tensors
) -> torch.Tensor:
    output = transformer(
        latents,
        encoder_hidden_states=told["embeddings"],
        encoder_attention_mask=told["mask"],
        timestep=timesteps.expand(len(latents)),
        added_cond_kwargs={name: told.get(name) for name in ("resolution", "aspect_ratio")},
        return_dict=False,
    )
    # The other half of the channels, where there is one, is the learned variance: no solver's use.
    prediction: torch.Tensor = output[0][:, : latents.shape[1]]
    return prediction


def _settings(transformer: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Settings:
    plain = Settings("PixArt", steps=20, guidance=4.5)
    return distilled("PixArt", transformer, scheduler) or plain


PIXART = Family(
    part="transformer",
    layers=MappingProxyType(
        {
            "attention": ATTENTION,
            # What a UNet's convolutions do, the look, is the work of each token's own layers here.
            "convolution": ("pos_embed.proj", *FEED_FORWARD, "proj_out"),
        }
    ),
    encode=_encode,
    predict=_predict,
    settings=_settings,
    patch=patch_size,
)
