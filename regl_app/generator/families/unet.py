"""Stable Diffusion 1, 2 and XL, and what was distilled from them: a UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from regl_app.core.types import Tensors
from regl_app.generator.families.family import ATTENTION, FEED_FORWARD, Family, Told
from regl_app.generator.families.settings import Settings, distilled


def _encode(pipeline: Any, texts: Sequence[str], told: Told) -> dict[str, torch.Tensor]:
    encoded = pipeline.encode_prompt(
        list(texts),
        device=told.encoded_on,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    conditioning = {"embeddings": encoded[0].float()}
    if len(encoded) > 2:  # SDXL also returns pooled embeddings, and is told sizes and crop
        size = float(told.image_size)
        sizes = torch.tensor([size, size, 0.0, 0.0, size, size])
        conditioning |= {"pooled": encoded[2].float(), "time_ids": sizes.expand(len(texts), -1)}
    if getattr(pipeline.config, "force_zeros_for_empty_prompt", False):
        conditioning = _without_words(conditioning, texts)
    if _embeds_guidance(pipeline.unet):
        scale = pipeline.get_guidance_scale_embedding(
            torch.full((len(texts),), told.guidance - 1.0),
            embedding_dim=pipeline.unet.config.time_cond_proj_dim,
        )
        conditioning["guidance"] = scale.float()
    return conditioning


def _without_words(
    conditioning: dict[str, torch.Tensor], texts: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return zeros in the rows of the empty prompt: SDXL was trained with those."""
    words = torch.tensor([float(text != "") for text in texts])
    return {
        name: value * words.to(value).view(-1, *(1 for _ in value.shape[1:]))
        if name != "time_ids"
        else value
        for name, value in conditioning.items()
    }


def _predict(
    unet: Any, latents: torch.Tensor, timesteps: torch.Tensor, told: Tensors
) -> torch.Tensor:
    arguments: dict[str, Any] = {"encoder_hidden_states": told["embeddings"]}
    added: dict[str, Any] = {}
    if "pooled" in told:
        added |= {"text_embeds": told["pooled"], "time_ids": told["time_ids"]}
    if "image_prompts" in told:  # of one IP-Adapter, one picture each
        added["image_embeds"] = [told["image_prompts"][:, None]]
    if added:
        arguments["added_cond_kwargs"] = added
    if "guidance" in told:
        arguments["timestep_cond"] = told["guidance"]
    prediction: torch.Tensor = unet(latents, timesteps, **arguments, return_dict=False)[0]
    return prediction


def _embeds_guidance(unet: Any) -> bool:
    """Return whether a UNet is a latent consistency model's (Luo et al. 2023)."""
    return getattr(unet.config, "time_cond_proj_dim", None) is not None


def _settings(unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Settings:
    large = unet.get("addition_embed_type") == "text_time"
    beta = 5000.0 if large else 2000.0
    name = "Stable Diffusion XL" if large else "Stable Diffusion 1 or 2"
    if unet.get("time_cond_proj_dim") is not None:
        return Settings("Latent consistency model", steps=4, guidance=8.5, dpo_beta=beta)
    plain = Settings(name, steps=30, guidance=2.0, dpo_beta=beta)
    return distilled(name, unet, scheduler, beta) or plain


UNET = Family(
    part="unet",
    layers=MappingProxyType(
        {
            "attention": (*ATTENTION, *FEED_FORWARD),
            "convolution": ("conv1", "conv2", "conv_shortcut", "conv_in", "conv_out"),
        }
    ),
    encode=_encode,
    predict=_predict,
    settings=_settings,
    embeds_guidance=_embeds_guidance,
)
