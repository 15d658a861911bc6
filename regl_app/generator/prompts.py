"""Text prompts of classes, and what the text encoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.types import Tensors
from regl_app.generator.families.family import Family, Told

_TEXT_BATCH = 64


@dataclass(frozen=True)
class TextConditioning:
    """What the denoiser is told, per class and, in the last row, for the empty prompt.

    Which tensors there are, ``(C + 1, ...)`` each, is the family's matter; 'embeddings'
    ``(C + 1, L, D)`` always is one.
    """

    tensors: Tensors

    def of(self, rows: torch.Tensor) -> Tensors:
        """Return the conditioning, ``(N, ...)``, of ``rows`` (N,); -1 is the empty prompt."""
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


def class_prompts(config: GeneratorConfig, concepts: Sequence[str]) -> tuple[str, ...]:
    """Return the text prompt of each class."""
    return tuple(config.prompt.replace("{concept}", concept) for concept in concepts)


def encode_prompts(
    pipeline: Any, family: Family, prompts: Sequence[str], told: Told, device: torch.device
) -> TextConditioning:
    """Return the conditioning of ``prompts`` (C,) and of the empty one, on ``device``."""
    texts = [*prompts, ""]
    for name, part in pipeline.components.items():
        if name.startswith("text_encoder") and part is not None:
            part.float()
    with torch.no_grad():
        parts = [
            family.encode(pipeline, texts[start : start + _TEXT_BATCH], told)
            for start in range(0, len(texts), _TEXT_BATCH)
        ]
    return TextConditioning(
        {name: torch.cat([part[name] for part in parts]).to(device) for name in parts[0]}
    )
