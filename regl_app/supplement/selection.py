"""Which synthetic images a client should learn from: those on which it lags behind (FedDPD).

Scores compare a local with the global model on the same images. ``reward`` orders images,
``is_discrepant`` is the paper's filter, ``select`` fills class quotas with the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regl_app.core.errors import DivergedError, ProtocolError
from regl_app.core.types import Counts, Floats, Indices, Labels

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairPredictions:
    """Two models' log-probabilities ``(N, C)`` on the same N images of classes ``labels`` (N,).

    Raises:
        ProtocolError: shapes disagree, or a label is no class.
        DivergedError: a value is NaN.
    """

    log_p_global: Floats
    log_p_local: Floats
    labels: Labels

    def __post_init__(self) -> None:
        count = len(self.labels)
        for name in ("log_p_global", "log_p_local"):
            values = getattr(self, name)
            if values.ndim != 2 or len(values) != count or values.shape != self.log_p_global.shape:
                raise ProtocolError(
                    f"{name} must be one row per image and one column per class, got "
                    f"{values.shape} for {count} images"
                )
            if np.isnan(values).any():
                raise DivergedError(f"{name} holds NaN: the model has diverged (lower train.lr)")
        if count and not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise ProtocolError(f"labels must be < {self.num_classes}, got {self.labels.max()}")

    def at(self, indices: Indices) -> PairPredictions:
        """Return the predictions on the images at ``indices`` (M,)."""
        return PairPredictions(
            self.log_p_global[indices], self.log_p_local[indices], self.labels[indices]
        )

    @property
    def num_classes(self) -> int:
        """Return C."""
        return int(self.log_p_global.shape[1])

    def of_label(self) -> tuple[Floats, Floats]:
        """Return log p_G(y|x) and log p_L(y|x), each ``(N,)``, floored so that they are finite."""
        rows = np.arange(len(self.labels))
        least = np.log(np.finfo(np.float64).tiny)
        of_label = (self.log_p_global[rows, self.labels], self.log_p_local[rows, self.labels])
        return np.maximum(of_label[0], least), np.maximum(of_label[1], least)


def reward(predictions: PairPredictions, disagreement: float) -> Floats:
    """Return how much a client lacks each image, ``(N,)``; the larger, the more.

    FedDPD prefers images of high local loss, low global loss and disagreeing predictions::

        r(x, y) = log p_G(y|x) - log p_L(y|x) + lambda * 1[argmax p_G(.|x) != argmax p_L(.|x)]

    Args:
        predictions: of both models.
        disagreement: lambda, the bonus of disagreeing, in nats.
    """
    log_global, log_local = predictions.of_label()
    guesses = predictions.log_p_global.argmax(axis=1), predictions.log_p_local.argmax(axis=1)
    result: Floats = log_global - log_local + disagreement * (guesses[0] != guesses[1])
    return result


def is_confident(predictions: PairPredictions) -> Flags:
    """Return whether the global model can read each image, ``p_G(y|x) > 1/C``, ``(N,)``."""
    result: Flags = predictions.of_label()[0] > -np.log(predictions.num_classes)
    return result


def is_discrepant(predictions: PairPredictions) -> Flags:
    """Return FedDPD's filter ``(N,)``: ``l_L > l_G`` and ``p_G(y|x) > 1/C``, l = -log p(y|x)."""
    log_global, log_local = predictions.of_label()
    return (log_local < log_global) & is_confident(predictions)


@dataclass(frozen=True)
class Selection:
    """Chosen images: their indices in the pool ``(M,)``, by class, best first.

    ``discrepant`` of them passed the filter; the others filled quotas that it left open.
    """

    indices: Indices
    discrepant: int


def select(
    predictions: PairPredictions, quotas: Counts, *, disagreement: float, filtered: bool
) -> Selection:
    """Return the ``quotas[c]`` best images of every class c.

    Images that pass the filter come first, by reward; where they do not suffice, those that the
    global model can at least read follow, then the rest, so that the planned total is realised.
    A class with fewer images than its quota gives all it has. Ties go to the earlier image.

    Args:
        predictions: of both models, on the pool.
        quotas: images per class, ``(C,)``.
        disagreement: lambda of the reward.
        filtered: False orders by reward alone (the ablation without filter).
    """
    if quotas.shape != (predictions.num_classes,):
        raise ProtocolError(f"quotas must be ({predictions.num_classes},), got {quotas.shape}")
    passed = is_discrepant(predictions)
    rank = (
        passed.astype(np.int64) + is_confident(predictions) if filtered else np.zeros_like(passed)
    )
    order = np.lexsort((-reward(predictions, disagreement), -rank.astype(np.int64)))
    chosen = [order[predictions.labels[order] == c][:quota] for c, quota in enumerate(quotas)]
    indices = np.concatenate([np.empty(0, dtype=np.int64), *chosen])
    return Selection(indices, int(passed[indices].sum()))


def first(labels: Labels, quotas: Counts) -> Indices:
    """Return the indices ``(M,)`` of the first ``quotas[c]`` images of every class c, by class."""
    indices = [np.flatnonzero(labels == c)[:quota] for c, quota in enumerate(quotas)]
    return np.concatenate([np.empty(0, dtype=np.int64), *indices])
