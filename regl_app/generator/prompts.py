"""Text prompts of classes, and what the text encoder makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.types import Tensors
from regl_app.data.concepts import Concept, phrasings
from regl_app.generator.families.family import Family, Told

_TEXT_BATCH = 64


@dataclass(frozen=True)
class TextConditioning:
    """What the denoiser is told, per prompt and, in the last row, where it is told nothing.

    The first C rows are the classes' first phrasings. Which tensors there are, ``(R + 1, ...)``
    each, is the family's matter; 'embeddings' ``(R + 1, L, D)`` always is one.
    """

    tensors: Tensors

    def of(self, rows: torch.Tensor) -> Tensors:
        """Return the conditioning, ``(N, ...)``, of ``rows`` (N,); -1 is the empty or
        negative prompt.
        """
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class PromptRows:
    """Which row of the conditioning an image is told: its class's phrasings, used in turn.

    ``rows[c]`` are those of class c, the first of which is c itself.
    """

    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, phrasings: Sequence[Sequence[str]]) -> PromptRows:
        """Return the rows of classes that have so many phrasings each."""
        found, free = [], len(phrasings)
        for label, texts in enumerate(phrasings):
            more = range(free, free + len(texts) - 1)
            found.append((label, *more))
            free = more.stop
        return cls(tuple(found))

    def of_images(self, labels: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
        """Return the rows ``(N,)`` of images: ``labels`` (N,), and their places in their class."""
        chosen = [
            self.rows[label][place % len(self.rows[label])]
            for label, place in zip(labels.tolist(), places, strict=True)
        ]
        return torch.tensor(chosen, dtype=labels.dtype, device=labels.device)

    def of_set(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the rows ``(N,)`` of a set of images of ``labels`` (N,), each class in turn."""
        seen: Counter[int] = Counter()
        places = []
        for label in labels.tolist():
            places.append(seen[label])
            seen[label] += 1
        return self.of_images(labels, places)


def class_phrasings(
    config: GeneratorConfig, concepts: Sequence[Concept]
) -> tuple[tuple[str, ...], ...]:
    """Return the text prompts of each class, at least one, ``(C,)``."""
    return tuple(
        tuple(config.prompt.replace("{concept}", text) for text in phrasings(concept))
        for concept in concepts
    )


def class_prompts(config: GeneratorConfig, concepts: Sequence[Concept]) -> tuple[str, ...]:
    """Return the text prompt of each class, the first of several."""
    return tuple(texts[0] for texts in class_phrasings(config, concepts))


def encode_prompts(
    pipeline: Any,
    family: Family,
    prompts: Sequence[Sequence[str]],
    told: Told,
    device: torch.device,
) -> TextConditioning:
    """Return the conditioning of all classes' ``prompts`` (C,), and of the negative one."""
    first, more = [texts[0] for texts in prompts], [text for each in prompts for text in each[1:]]
    texts = [*first, *more, told.negative]
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
