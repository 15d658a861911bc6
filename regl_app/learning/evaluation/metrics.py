"""Accuracy, macro-F1, and what becomes of each class, of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from regl_app.core.errors import DataError
from regl_app.core.torch_defaults import plain_torch
from regl_app.core.types import Counts
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.predict import predict_log_probs

__all__ = ["Metrics", "evaluate", "predict_log_probs", "score"]


@dataclass(frozen=True)
class Metrics:
    """How well a classifier does on one set of images; all 0 if there are none."""

    accuracy: float
    macro_f1: float
    """Mean F1 over the classes that the set holds."""
    loss: float
    """Mean cross-entropy."""
    per_class: list[float | None]
    """Accuracy (recall) per class; None where the set holds no image of it."""
    images: int
    precision: list[float | None] = field(default_factory=list)
    """Per class, the share of right ones among the images taken for it; None where the set holds
    no image of it, or none was taken for it."""
    f1: list[float | None] = field(default_factory=list)
    """Per class; None where the set holds no image of it."""
    confusion: Counts | None = field(default=None, compare=False, repr=False)
    """How often class i was taken for j, ``(C, C)``; None where that is not known."""


def known(values: Sequence[float], there: Sequence[bool]) -> list[float | None]:
    """Return ``values``, None where they say nothing."""
    return [
        float(value) if is_there else None for value, is_there in zip(values, there, strict=True)
    ]


@plain_torch()
def evaluate(
    model: nn.Module,
    data: ImageSet,
    num_classes: int,
    device: torch.device | str,
    batch_size: int = 500,
) -> Metrics:
    """Return the metrics of ``model`` on ``data``."""
    if len(data) == 0:
        return Metrics(0.0, 0.0, 0.0, [None] * num_classes, 0)
    return score(
        predict_log_probs(model, data.pixels, device, batch_size), data.labels, num_classes
    )


def score(log_probs: torch.Tensor, labels: torch.Tensor, num_classes: int) -> Metrics:
    """Return the metrics of log-probabilities ``(N, num_classes)``, N > 0, for ``labels`` ``(N,)``.

    Raises:
        DataError: the shapes don't fit together.
    """
    if log_probs.shape != (len(labels), num_classes):
        raise DataError(
            f"log-probabilities must have shape ({len(labels)}, {num_classes}), got "
            f"{tuple(log_probs.shape)}"
        )
    from torchmetrics.functional import classification

    predicted = log_probs.argmax(dim=1)
    present = torch.bincount(labels, minlength=num_classes) > 0
    f1 = classification.multiclass_f1_score(predicted, labels, num_classes, average="none")
    recall = classification.multiclass_recall(predicted, labels, num_classes, average="none")
    precision = classification.multiclass_precision(predicted, labels, num_classes, average="none")
    confusion = classification.multiclass_confusion_matrix(predicted, labels, num_classes)
    accuracy = classification.multiclass_accuracy(predicted, labels, num_classes, average="micro")
    return Metrics(
        accuracy=float(accuracy),
        macro_f1=float(f1[present].mean()),
        loss=float(functional.nll_loss(log_probs, labels)),
        per_class=known(recall.tolist(), present.tolist()),
        images=len(labels),
        precision=known(precision.tolist(), (present & (confusion.sum(dim=0) > 0)).tolist()),
        f1=known(f1.tolist(), present.tolist()),
        confusion=confusion.numpy(),
    )
