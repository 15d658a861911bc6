"""What the frozen model itself makes of each class: the anchor of prior preservation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from regl_app.config import GeneratorConfig
from regl_app.data.images import Counts
from regl_app.files import atomic_path
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import Progress, sample_latents
from regl_app.seeding import derive_seed

_STREAM = derive_seed(0, "prior")


@dataclass(frozen=True)
class Prior:
    """Latents ``(M, c, h, w)`` sampled by the frozen model and their classes ``(M,)``."""

    latents: torch.Tensor
    labels: torch.Tensor

    def lacking(self, counts: Counts) -> Prior:
        """Return the part whose classes have no real image in ``counts`` (C,)."""
        absent = torch.from_numpy(counts == 0)[self.labels]
        return Prior(self.latents[absent], self.labels[absent])


def prior_latents(
    foundation: Foundation,
    config: GeneratorConfig,
    *,
    per_class: int,
    path: Path | None = None,
    progress: Progress | None = None,
) -> Prior:
    """Return ``per_class`` latents of every class, the same for all clients and runs.

    Args:
        foundation: the model, frozen (no adapter merged).
        config: the sampler.
        per_class: latents per class.
        path: cache file, whose name must identify generator and sampler; damaged: made anew.
        progress: called with (latents done, all).
    """
    labels = torch.arange(foundation.num_classes).repeat_interleave(per_class)
    if path is not None and path.is_file():
        try:
            latents = load_file(path)["latents"]
        except (OSError, SafetensorError, KeyError):
            latents = torch.empty(0)
        if latents.shape == (len(labels), *foundation.latent_shape):
            return Prior(latents, labels)
    indices = list(range(per_class)) * foundation.num_classes
    latents = sample_latents(
        foundation, labels, indices, config, stream=_STREAM, progress=progress
    ).cpu()
    if path is not None:
        with atomic_path(path) as temporary:
            save_file({"latents": latents.contiguous()}, temporary)
    return Prior(latents, labels)
