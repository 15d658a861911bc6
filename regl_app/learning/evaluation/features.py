"""Penultimate features and their picture in the plane."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from regl_app.core.seeding import derive_seed
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.predict import apply_in_batches
from regl_app.learning.models.classifier import Classifier

Floats = npt.NDArray[np.float32]


def features(
    model: Classifier, data: ImageSet, device: torch.device | str, batch_size: int = 500
) -> Floats:
    """Return the penultimate features ``(N, D)`` float32 of ``data``."""
    output = apply_in_batches(model, model.features, data.images, device, batch_size)
    return output.numpy().astype(np.float32)


def tsne(points: Floats, seed: int) -> Floats:
    """Return t-SNE coordinates ``(N, 2)`` of ``points`` ``(N, D)``.

    The perplexity is 30, or less where N is too small for it; fewer than 4 points, which t-SNE
    cannot arrange, get their first two features (zeros where D < 2).
    """
    count = len(points)
    if count < 4:
        flat = np.zeros((count, 2), dtype=np.float32)
        flat[:, : points.shape[1]] = points[:, :2]
        return flat
    from sklearn.manifold import TSNE

    embedding = TSNE(
        perplexity=min(30.0, (count - 1) / 3),
        init="pca" if points.shape[1] >= 2 else "random",
        random_state=derive_seed(seed, "tsne") % 2**32,
    ).fit_transform(points)
    return np.asarray(embedding, dtype=np.float32)
