"""Families of denoisers: all that depends on a checkpoint's architecture.

A family says which part of the pipeline is the denoiser, what it is told of a prompt, how it is
called and which of its layers are adapted. A new family is one more entry in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from regl_app.core.types import Tensors

Encode = Callable[[Any, Sequence[str], int], dict[str, torch.Tensor]]
"""(pipeline, N texts, image size) -> conditioning by name, ``(N, ...)`` each, as computed."""
Predict = Callable[[Any, torch.Tensor, torch.Tensor, Tensors], torch.Tensor]
"""(denoiser, latents (N, c, h, w), timesteps () or (N,), conditioning (N, ...)) -> (N, c, h, w)."""


def _latent_shape(denoiser: Any, side: int) -> tuple[int, int, int]:
    return int(denoiser.config.in_channels), side, side


@dataclass(frozen=True)
class Family:
    """What is special about one architecture.

    Args:
        part: the pipeline's attribute and folder of the denoiser, and the prefix of its layers in
            a LoRA file (as in diffusers' ``_lora_loadable_modules``).
        layers: per choice of ``lora.layers``, the ends of the names of the linear layers and
            convolutions that it means; 'all' means both.
        encode: what the pipeline's text encoders make of prompts.
        predict: how the denoiser is called.
        latent_shape: ``(c, h, w)`` of a latent, of the denoiser and h.
    """

    part: str
    layers: Mapping[str, tuple[str, ...]]
    encode: Encode
    predict: Predict
    latent_shape: Callable[[Any, int], tuple[int, int, int]] = _latent_shape

    def adapted_layers(self, denoiser: Any, choice: str) -> list[str]:
        """Return the names of the denoiser's layers that ``lora.layers`` = ``choice`` means."""
        chosen = self.layers if choice == "all" else (choice,)
        ends = tuple(end for group in chosen for end in self.layers[group])
        return [
            name
            for name, module in denoiser.named_modules()
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name.endswith(ends)
        ]


def _encode_clip(pipeline: Any, texts: Sequence[str], image_size: int) -> dict[str, torch.Tensor]:
    encoded = pipeline.encode_prompt(
        list(texts), device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    told = {"embeddings": encoded[0].float()}
    if len(encoded) > 2:  # SDXL also returns pooled embeddings, and is told sizes and crop
        size = float(image_size)
        sizes = torch.tensor([size, size, 0.0, 0.0, size, size])
        told |= {"pooled": encoded[2].float(), "time_ids": sizes.expand(len(texts), -1)}
    return told


def _predict_unet(
    unet: Any, latents: torch.Tensor, timesteps: torch.Tensor, told: Tensors
) -> torch.Tensor:
    arguments: dict[str, Any] = {"encoder_hidden_states": told["embeddings"]}
    if "pooled" in told:
        arguments["added_cond_kwargs"] = {
            "text_embeds": told["pooled"],
            "time_ids": told["time_ids"],
        }
    prediction: torch.Tensor = unet(latents, timesteps, **arguments, return_dict=False)[0]
    return prediction


def _encode_t5(pipeline: Any, texts: Sequence[str], image_size: int) -> dict[str, torch.Tensor]:
    embeddings, mask, *_ = pipeline.encode_prompt(
        list(texts), device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    told = {"embeddings": embeddings.float(), "mask": mask}
    if pipeline.transformer.use_additional_conditions:  # PixArt-Alpha at 1024 pixels
        told["resolution"] = torch.full((len(texts), 2), float(image_size))
        told["aspect_ratio"] = torch.ones(len(texts), 1)
    return told


def _predict_pixart(
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


_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")

UNET = Family(
    part="unet",
    layers=MappingProxyType(
        {
            "attention": (*_ATTENTION, *_FEED_FORWARD),
            "convolution": ("conv1", "conv2", "conv_shortcut", "conv_in", "conv_out"),
        }
    ),
    encode=_encode_clip,
    predict=_predict_unet,
)
"""Stable Diffusion 1, 2 and XL."""

PIXART = Family(
    part="transformer",
    layers=MappingProxyType(
        {
            "attention": _ATTENTION,
            # What a UNet's convolutions do, the look, is the work of each token's own layers here.
            "convolution": ("pos_embed.proj", *_FEED_FORWARD, "proj_out"),
        }
    ),
    encode=_encode_t5,
    predict=_predict_pixart,
)
"""PixArt-Alpha and PixArt-Sigma."""

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {"UNet2DConditionModel": UNET, "PixArtTransformer2DModel": PIXART}
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
