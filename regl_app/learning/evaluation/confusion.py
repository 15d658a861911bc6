"""Confusion counts: what several parties' test sets need to share for exact joint metrics."""

from __future__ import annotations

import numpy as np

from regl_app.core.types import Counts, Labels
from regl_app.learning.evaluation.metrics import Metrics, known


def confusion_counts(labels: Labels, predicted: Labels, num_classes: int) -> Counts:
    """Return how often class i was taken for j, ``(C, C)``, of labels and predictions ``(N,)``."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.astype(np.int64).reshape(num_classes, num_classes)


def metrics_of(confusion: Counts, loss: float) -> Metrics:
    """Return the metrics of all images counted in ``confusion`` ``(C, C)``, at least one."""
    right = np.diag(confusion)
    held, guessed = confusion.sum(axis=1), confusion.sum(axis=0)
    present = held > 0
    f1 = 2 * right[present] / (held + guessed)[present]
    told = present & (guessed > 0)
    return Metrics(
        accuracy=float(right.sum() / held.sum()),
        macro_f1=float(f1.mean()),
        loss=loss,
        per_class=known(right / np.maximum(held, 1), present),
        images=int(held.sum()),
        precision=known(right / np.maximum(guessed, 1), told),
        f1=known(2 * right / np.maximum(held + guessed, 1), present),
        confusion=confusion,
    )
