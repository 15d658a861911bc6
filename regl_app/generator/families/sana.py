"""Sana: linear attention over the few latents of a deep autoencoder, told by Gemma."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from regl_app.core.types import Tensors
from regl_app.generator.families.family import ATTENTION, Family, Told, patch_size
from regl_app.generator.families.settings import Settings


def _encode(pipeline: Any, texts: Sequence[str], told: Told) -> dict[str, torch.Tensor]:
    # The pipeline asks Gemma to enhance a prompt by an instruction, but not the negative one.
    instruction = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"]
    parts = [
        pipeline.encode_prompt(
            [text],
            do_classifier_free_guidance=False,
            device=told.encoded_on,
            complex_human_instruction=instruction.default,
        )[:2]
        if text != told.negative
        else _negative(pipeline, told)
        for text in texts
    ]
    embeddings, masks = (torch.cat(each) for each in zip(*parts, strict=True))
    return {"embeddings": embeddings.float(), "mask": masks}


def _negative(pipeline: Any, told: Told) -> tuple[torch.Tensor, torch.Tensor]:
    _, _, embeddings, mask = pipeline.encode_prompt(
        [""],
        do_classifier_free_guidance=True,
        negative_prompt=told.negative,
        device=told.encoded_on,
    )
    return embeddings, mask


def _predict(
    transformer: Any, latents: torch.Tensor, timesteps: torch.Tensor, told: Tensors
) -> torch.Tensor:
    output = transformer(
        latents,
        encoder_hidden_states=told["embeddings"],
        encoder_attention_mask=told["mask"],
        timestep=timesteps.expand(len(latents)) * transformer.config.timestep_scale,
        return_dict=False,
    )
    prediction: torch.Tensor = output[0][:, : latents.shape[1]]
    return prediction


def _settings(_transformer: Mapping[str, Any], _scheduler: Mapping[str, Any]) -> Settings:
    return Settings("Sana", steps=20, guidance=4.5)


SANA = Family(
    part="transformer",
    layers=MappingProxyType(
        {
            "attention": ATTENTION,
            # Its feed-forward layers are convolutions; the one of each channel by itself is left.
            "convolution": ("patch_embed.proj", "conv_inverted", "conv_point", "proj_out"),
        }
    ),
    encode=_encode,
    predict=_predict,
    settings=_settings,
    patch=patch_size,
)
