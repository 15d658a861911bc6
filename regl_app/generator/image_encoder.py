"""The image encoder that comes with a checkpoint, such as CLIP's with Stable Diffusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

from regl_app.core.out_of_memory import is_out_of_memory
from regl_app.data.resize import fit
from regl_app.generator.held_weights import WeightsTooLargeError, memory_of

Features = Callable[[torch.Tensor], torch.Tensor]
"""Makes vectors, float32 ``(N, F)``, of uint8 pictures ``(N, C, H, W)``, grey or in colours."""


class ImageEncoder(Protocol):
    """Turns pictures into feature vectors."""

    def on(self, device: torch.device) -> AbstractContextManager[Features]:
        """Return a context in which the model is on ``device``: a client needs it once.

        Raises:
            WeightsTooLargeError: it does not fit into the device's memory.
        """


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
        """Have the model on ``device`` for a while.

        Raises:
            WeightsTooLargeError: it does not fit into the device's memory.
        """
        side = int(self._model.config.image_size)

        @torch.no_grad()
        def features(pictures: torch.Tensor) -> torch.Tensor:
            shown = fit(pictures, (3, side, side)).float() / 255
            return vectors_of(self._model(((shown - self._mean) / self._std).to(device)))

        try:
            bring(self._model, device, "the generator's image encoder", "set lora.image-tokens=0")
            yield features
        finally:
            self._model.to("cpu")


def bring(model: Any, device: torch.device, name: str, remedy: str) -> None:
    """Have the float32 ``model``, called ``name``, on ``device``.

    Raises:
        WeightsTooLargeError: it does not fit there, with ``remedy`` beside those that always help.
    """
    try:
        model.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        size = sum(weight.numel() for weight in model.parameters()) * 4
        raise WeightsTooLargeError(
            f"{name}: its {size / 1e9:.1f} GB of weights do not fit into {device} with "
            f"{memory_of(device)} (let fewer clients run on it at once, or {remedy})"
        ) from error


def vectors_of(output: Any) -> torch.Tensor:
    """Return the vectors ``(N, F)`` of a model's output: projected ones where it has them."""
    projected = getattr(output, "image_embeds", None)
    vectors: torch.Tensor = output.pooler_output if projected is None else projected
    return vectors.float()
