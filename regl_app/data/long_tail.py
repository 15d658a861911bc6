"""Long-tailed global label distributions."""

from __future__ import annotations

import numpy as np
import torch

from regl_app.core.errors import DataError
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Counts, Indices


def long_tail_counts(counts: Counts, factor: float) -> Counts:
    """Return how many images each class keeps, ``(C,)``.

    ``n_c = n_max * factor ** (-c / (C - 1))``: class 0 is the head, the last class the tail. A
    class never keeps more than it has, and at least one image if it has any.
    """
    if factor < 1:
        raise DataError(f"long-tail.factor must be >= 1, got {factor} (1 keeps the set balanced)")
    classes = len(counts)
    if classes < 2:
        return counts.copy()
    decay = np.power(factor, -np.arange(classes) / (classes - 1))
    wanted: Counts = np.maximum(np.round(counts.max() * decay), 1).astype(np.int64)
    return np.minimum(wanted, counts)


def long_tail_indices(labels: torch.Tensor, num_classes: int, factor: float, seed: int) -> Indices:
    """Return the sorted indices into ``labels`` ``(N,)`` that an exponential long tail keeps."""
    values = labels.numpy()
    kept = long_tail_counts(np.bincount(values, minlength=num_classes).astype(np.int64), factor)
    rng = numpy_generator(seed, "long-tail")
    parts = [rng.permutation(np.flatnonzero(values == c))[: kept[c]] for c in range(num_classes)]
    return np.sort(np.concatenate(parts)).astype(np.int64)
