"""What a model makes of each class, with its latents: candidates to select from, an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.disk_cache import touch
from regl_app.core.errors import StorageError
from regl_app.core.log import logger
from regl_app.core.tensor_files import load_tensors, save_tensors
from regl_app.core.types import Counts, StepProgress
from regl_app.data.images import ImageSet
from regl_app.generator.decoding import decode_latents
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample_latents

_LATENTS, _IMAGES = "latents", "images"
_DECODED_BATCHES = 2


@dataclass(frozen=True)
class Pool:
    """Sampled scaled latents, float32 ``(N, c, h, w)``, and the N images they decode to."""

    latents: torch.Tensor
    images: ImageSet

    @property
    def labels(self) -> torch.Tensor:
        """Return the classes, ``(N,)``."""
        return self.images.labels

    def rows(self, foundation: Foundation) -> torch.Tensor:
        """Return the rows ``(N,)`` of the prompts that ``foundation`` drew each image by.

        A pool has whole classes, so that an image's place in its class tells the phrasing.
        """
        return foundation.prompt_rows.of_set(self.labels)

    def lacking(self, counts: Counts) -> Self:
        """Return the part whose classes have no real image in ``counts`` (C,)."""
        absent = torch.nonzero(torch.from_numpy(counts == 0)[self.labels]).flatten()
        return type(self)(self.latents[absent], self.images.subset(absent))


def sample_pool(
    foundation: Foundation,
    config: GeneratorConfig,
    shape: tuple[int, int, int],
    *,
    per_class: int,
    stream: int,
    path: Path,
    progress: StepProgress | None = None,
) -> Pool:
    """Return ``per_class`` samples of every class, by class, the same for all who ask.

    Args:
        foundation: the model, with the adapter of the moment merged.
        config: the sampler.
        shape: ``(C, H, W)`` of the images.
        per_class: latents per class.
        stream: seed of the sequences.
        path: file to write, whose name must identify all of the above; ``load_pool`` reads it.
            Without room on the disk it is not written, with a warning.
        progress: called with (samples done, all).
    """
    labels = torch.arange(foundation.num_classes).repeat_interleave(per_class)
    places = list(range(per_class)) * foundation.num_classes
    parts = []
    # A batch is decoded before the next ones are drawn: what the VAE ruins is told at once, and no
    # more latents than a portion's are on the device.
    size = _DECODED_BATCHES * config.batch_size
    for begin in range(0, len(labels), size):
        part = slice(begin, begin + size)
        made = sample_latents(
            foundation,
            labels[part],
            places[part],
            config,
            stream=stream,
            progress=progress and partial(_told, progress, begin, len(labels)),
        )
        parts.append((made.cpu(), decode_latents(foundation, made, config.batch_size, shape)))
    latents, images = (torch.cat(each) for each in zip(*parts, strict=True))
    try:
        save_tensors(path, {_LATENTS: latents, _IMAGES: images})
    except StorageError as error:
        logger.warning("the pool is not stored, so it is made again each time: %s", error)
    return Pool(latents, ImageSet(images, labels))


def _told(progress: StepProgress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def load_pool(path: Path, num_classes: int, per_class: int) -> Pool | None:
    """Return the pool that ``sample_pool`` wrote to ``path``; None if absent or damaged."""
    try:
        held = load_tensors(path) or {}
    except OSError:
        return None
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    if {name: len(held.get(name, ())) for name in (_LATENTS, _IMAGES)} != dict.fromkeys(
        (_LATENTS, _IMAGES), len(labels)
    ):
        return None
    if not held[_LATENTS].isfinite().all():  # stored before this was looked at
        return None
    touch(path)  # the least recently used are evicted first
    return Pool(held[_LATENTS], ImageSet(held[_IMAGES], labels))
