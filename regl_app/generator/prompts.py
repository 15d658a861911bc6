"""Text prompts of classes, and what the text encoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig

_TEXT_BATCH = 64


@dataclass(frozen=True)
class TextConditioning:
    """What the UNet is told, per class and, in the last row, for the empty prompt.

    ``embeddings`` (C + 1, L, D); ``pooled`` (C + 1, P) and ``time_ids`` (6,) only for SDXL.
    """

    embeddings: torch.Tensor
    pooled: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    def arguments(self, rows: torch.Tensor) -> dict[str, Any]:
        """Return the UNet's keyword arguments for ``rows`` (N,) int64; -1 is the empty prompt."""
        arguments: dict[str, Any] = {"encoder_hidden_states": self.embeddings[rows]}
        if self.pooled is not None and self.time_ids is not None:
            arguments["added_cond_kwargs"] = {
                "text_embeds": self.pooled[rows],
                "time_ids": self.time_ids.expand(len(rows), -1),
            }
        return arguments


def class_prompts(config: GeneratorConfig, concepts: Sequence[str]) -> tuple[str, ...]:
    """Return the text prompt of each class."""
    return tuple(config.prompt.replace("{concept}", concept) for concept in concepts)


def encode_prompts(
    pipeline: Any, prompts: Sequence[str], image_size: int, device: torch.device
) -> TextConditioning:
    texts = [*prompts, ""]
    for name in ("text_encoder", "text_encoder_2"):
        if (encoder := getattr(pipeline, name, None)) is not None:
            encoder.float()
    embeddings: list[torch.Tensor] = []
    pooled: list[torch.Tensor] = []
    with torch.no_grad():
        for start in range(0, len(texts), _TEXT_BATCH):
            encoded = pipeline.encode_prompt(
                texts[start : start + _TEXT_BATCH],
                device="cpu",
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
            embeddings.append(encoded[0].float())
            if len(encoded) > 2:  # SDXL also returns pooled embeddings
                pooled.append(encoded[2].float())
    size = float(image_size)
    return TextConditioning(
        torch.cat(embeddings).to(device),
        torch.cat(pooled).to(device) if pooled else None,
        torch.tensor([size, size, 0.0, 0.0, size, size], device=device) if pooled else None,
    )
