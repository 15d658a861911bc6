"""The image encoder that comes with a checkpoint, such as CLIP's with Stable Diffusion."""

from __future__ import annotations

from typing import Any

import torch

from regl_app.data.pictures import Pictures
from regl_app.data.resize import fit


class ImageEncoder:
    """Turns pictures into feature vectors.

    Args:
        model: of transformers' kind, with projected embeddings (CLIP) or a pooled output (SigLIP).
        processor: the image processor that belongs to it.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model.eval().requires_grad_(False).float()
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1)
        self._std = torch.tensor(processor.image_std).view(3, 1, 1)

    @torch.no_grad()
    def features(self, pictures: Pictures, device: torch.device) -> torch.Tensor:
        """Return vectors, float32 ``(N, F)``, of uint8 pictures ``(N, C, H, W)``.

        The model is on ``device`` for this time alone: a client needs it once.
        """
        side = int(self._model.config.image_size)
        shown = fit(pictures[:], (3, side, side)).float() / 255
        self._model.to(device)
        try:
            output = self._model(((shown - self._mean) / self._std).to(device))
        finally:
            self._model.to("cpu")
        projected = getattr(output, "image_embeds", None)
        vectors: torch.Tensor = output.pooler_output if projected is None else projected
        return vectors.float()
