"""The image encoder that comes with a checkpoint, such as CLIP's with Stable Diffusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

from regl_app.data.resize import fit

Features = Callable[[torch.Tensor], torch.Tensor]
"""Makes vectors, float32 ``(N, F)``, of uint8 pictures ``(N, C, H, W)``, grey or in colours."""


class ImageEncoder(Protocol):
    """Turns pictures into feature vectors."""

    def on(self, device: torch.device) -> AbstractContextManager[Features]:
        """Return a context in which the model is on ``device``: a client needs it once."""


class OwnEncoder:
    """The image encoder of a pipeline.

    Args:
        model: of transformers' kind, with projected embeddings (CLIP) or a pooled output (SigLIP).
        processor: the image processor that belongs to it.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model.eval().requires_grad_(False).float()
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1)
        self._std = torch.tensor(processor.image_std).view(3, 1, 1)

    @contextmanager
    def on(self, device: torch.device) -> Iterator[Features]:
        """Have the model on ``device`` for a while."""
        side = int(self._model.config.image_size)

        @torch.no_grad()
        def features(pictures: torch.Tensor) -> torch.Tensor:
            shown = fit(pictures, (3, side, side)).float() / 255
            return vectors_of(self._model(((shown - self._mean) / self._std).to(device)))

        self._model.to(device)
        try:
            yield features
        finally:
            self._model.to("cpu")


def vectors_of(output: Any) -> torch.Tensor:
    """Return the vectors ``(N, F)`` of a model's output: projected ones where it has them."""
    projected = getattr(output, "image_embeds", None)
    vectors: torch.Tensor = output.pooler_output if projected is None else projected
    return vectors.float()
