"""What the frozen model itself makes of each class: candidates to select from, and an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from regl_app.config import GeneratorConfig
from regl_app.data.images import Counts
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import Progress, sample_latents
from regl_app.tensor_files import load_tensors, save_tensors

_LATENTS = "latents"


@dataclass(frozen=True)
class Pool:
    """Scaled latents ``(N, c, h, w)`` sampled by the frozen model and their classes ``(N,)``."""

    latents: torch.Tensor
    labels: torch.Tensor

    def lacking(self, counts: Counts) -> Self:
        """Return the part whose classes have no real image in ``counts`` (C,)."""
        absent = torch.from_numpy(counts == 0)[self.labels]
        return type(self)(self.latents[absent], self.labels[absent])


def frozen_pool(
    foundation: Foundation,
    config: GeneratorConfig,
    *,
    per_class: int,
    stream: int,
    path: Path | None = None,
    progress: Progress | None = None,
) -> Pool:
    """Return ``per_class`` latents of every class, by class, the same for all who ask.

    Args:
        foundation: the model, frozen (no adapter merged).
        config: the sampler.
        per_class: latents per class.
        stream: seed of the sequences.
        path: cache file, whose name must identify all of the above; damaged: made anew.
        progress: called with (latents done, all).
    """
    labels = torch.arange(foundation.num_classes).repeat_interleave(per_class)
    if (
        path is not None
        and (held := _load(path, (len(labels), *foundation.latent_shape))) is not None
    ):
        return Pool(held, labels)
    places = list(range(per_class)) * foundation.num_classes
    latents = sample_latents(
        foundation, labels, places, config, stream=stream, progress=progress
    ).cpu()
    if path is not None:
        save_tensors(path, {_LATENTS: latents})
    return Pool(latents, labels)


def _load(path: Path, shape: tuple[int, ...]) -> torch.Tensor | None:
    try:
        latents = (load_tensors(path) or {}).get(_LATENTS)
    except FileNotFoundError:
        return None
    fits = latents is not None and latents.shape == shape and latents.dtype == torch.float32
    return latents if fits else None
