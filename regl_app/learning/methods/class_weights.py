"""Cross-entropy in which rare classes' images weigh more."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from regl_app.core.types import Counts, Floats


def balanced(counts: Counts | Floats) -> torch.Tensor:
    """Return the weights ``(C,)`` of classes with ``counts`` ``(C,)`` images: ``N / (P n_c)``.

    P of the classes have images, N altogether, so that each of the P weighs the same in sum and an
    image 1 in the mean: scikit-learn's ``class_weight="balanced"``. A class without images, which
    only soft labels can speak of, weighs 1.
    """
    present = np.maximum(1, np.count_nonzero(counts))
    weights = np.where(counts > 0, counts.sum() / (present * np.where(counts > 0, counts, 1)), 1.0)
    return torch.from_numpy(weights).float()


def weighed_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return ``sum w_i l_i / sum w_i`` over the images of a batch, l being their cross-entropy.

    As PyTorch has it for hard labels. An image with soft labels weighs what its label's classes do
    in the mean; PyTorch would divide by the number of images there.

    Args:
        logits: ``(N, C)``.
        target: labels ``(N,)``, or soft ones ``(N, C)``.
        weights: of the classes, ``(C,)``.
    """
    own = weights[target] if target.ndim == 1 else target.to(weights.dtype) @ weights
    losses = functional.cross_entropy(logits, target, reduction="none")
    return (own * losses).sum() / own.sum()
