"""Penultimate features: what a model makes of images before it decides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.predict import apply_in_batches
from regl_app.learning.models.classifier import Classifier

Floats = npt.NDArray[np.float32]


def features(
    model: Classifier, data: ImageSet, device: torch.device | str, batch_size: int = 500
) -> Floats:
    """Return the penultimate features ``(N, D)`` float32 of ``data``."""
    output = apply_in_batches(model, model.features, data.pixels, device, batch_size)
    return output.numpy().astype(np.float32)
