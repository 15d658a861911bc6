"""Accuracy, macro-F1 and per-class accuracy of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from regl_app.core.errors import DataError
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
    accuracy = classification.multiclass_accuracy(predicted, labels, num_classes, average="micro")
    return Metrics(
        accuracy=float(accuracy),
        macro_f1=float(f1[present].mean()),
        loss=float(functional.nll_loss(log_probs, labels)),
        per_class=[
            float(value) if there else None
            for value, there in zip(recall.tolist(), present.tolist(), strict=True)
        ],
        images=len(labels),
    )
