"""Text prompts of classes, and what the text encoder makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.core.precision import DTYPES, Precision
from regl_app.core.types import Tensors
from regl_app.data.concepts import Concept, phrasings
from regl_app.generator.families.family import Family, Told
from regl_app.generator.prompt_limits import refuse_alike, warn_of_cuts
from regl_app.generator.ran_out import tried

_TEXT_BATCH = 64
LARGE = 64 * 2**20
"""Bytes of a table of all prompts from which on it waits in the processor's memory."""


@dataclass(frozen=True)
class TextConditioning:
    """What the denoiser is told, per prompt and, in the last row, where it is told nothing.

    The first C rows are the classes' first phrasings. Which tensors there are, ``(R + 1, ...)``
    each, is the family's matter; 'embeddings' ``(R + 1, L, D)`` always is one.
    """

    tensors: Tensors

    def of(self, rows: torch.Tensor, device: torch.device | None = None) -> Tensors:
        """Return the conditioning, ``(N, ...)``, of ``rows`` (N,); -1 is the empty or
        negative prompt.

        On ``device``, by default that of ``rows``.
        """
        device = device or rows.device
        return {
            name: tensor[rows.to(tensor.device)].to(device) for name, tensor in self.tensors.items()
        }

    @property
    def on_device(self) -> int:
        """Return the bytes of it that stay where the denoiser is: all, or none of a large one."""
        size = _bytes(self.tensors)
        return 0 if size > LARGE else size


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
    precision: Precision = "fp32",
) -> TextConditioning:
    """Return the conditioning of all classes' ``prompts`` (C,), and of the negative one.

    The pipeline's text encoders are gone afterwards: they may be larger than all the rest.

    Args:
        pipeline: whose text encoders read them.
        family: of its denoiser.
        prompts: each class's phrasings.
        told: what the denoiser is told beside them, and where the encoders are to run; on the
            processor if that device's memory does not hold them.
        device: of what is returned; a table above ``LARGE`` is the processor's.
        precision: that the encoders are held in and run in.

    Raises:
        GeneratorError: the processor's memory does not hold the encoders with a single prompt, or
            prompts of two classes become the same.
    """
    first, more = [texts[0] for texts in prompts], [text for each in prompts for text in each[1:]]
    texts = [*first, *more, told.negative]
    warn_of_cuts(pipeline, texts, family.text_tokens(getattr(pipeline, family.part)))
    tensors = _encoded(pipeline, family, texts, told, precision)
    if tensors is None and told.encoded_on != "cpu":
        logger.warning(
            "the text encoders do not fit into the memory of %s: the prompts are encoded on the "
            "processor, which takes longer, once",
            told.encoded_on,
        )
        told = replace(told, encoded_on="cpu")
        tensors = _encoded(pipeline, family, texts, told, precision)
    if tensors is None:
        raise GeneratorError(
            "the text encoders of generator.path do not fit into the processor's memory with a "
            "single prompt (take a machine with more memory, or a checkpoint with smaller text "
            "encoders)"
        )
    for name in _encoders(pipeline):
        setattr(pipeline, name, None)
    more_of = [label for label, each in enumerate(prompts) for _ in each[1:]]
    refuse_alike(tensors, texts, [*range(len(prompts)), *more_of])
    if told.encoded_on.startswith("cuda"):
        torch.cuda.empty_cache()
    if _bytes(tensors) <= LARGE:
        tensors = tried(partial(_to, tensors, device)) or _to(tensors, torch.device("cpu"))
    return TextConditioning(tensors)


def _encoders(pipeline: Any) -> list[str]:
    """Return the names of a pipeline's text encoders."""
    parts = pipeline.components.items()
    return [name for name, part in parts if name.startswith("text_encoder") and part is not None]


@torch.no_grad()
def _encoded(
    pipeline: Any, family: Family, texts: Sequence[str], told: Told, precision: Precision
) -> dict[str, torch.Tensor] | None:
    """Return what all ``texts`` become; None: the memory does not hold encoders and one text."""
    if not tried(partial(_moved, pipeline, told.encoded_on, precision)):
        return None
    parts: list[dict[str, torch.Tensor]] = []
    start, size = 0, _TEXT_BATCH
    while start < len(texts):
        some = texts[start : start + size]
        made = tried(partial(family.encode, pipeline, some, told))
        if made is None:
            if len(some) == 1:
                return None
            size = len(some) // 2
            logger.warning("the memory of %s encodes %d prompts at once", told.encoded_on, size)
            continue
        if _bytes(made) / len(some) * len(texts) > LARGE:
            made = _to(made, torch.device("cpu"))
        parts.append(made)
        start += len(some)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _moved(pipeline: Any, place: str, precision: Precision) -> bool:
    for name in _encoders(pipeline):
        # nn.Module's own method: the libraries' overrides warn about parts kept in fp32.
        torch.nn.Module.to(getattr(pipeline, name), place, DTYPES[precision])
    return True


def _to(tensors: Tensors, device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
