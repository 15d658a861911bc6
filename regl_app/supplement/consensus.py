"""Which synthetic images show what they are meant to, by all uploaded models together.

FedDPD's reward prefers images on which a client is at a loss, which often are odd ones, and its
filter asks the averaged model, which does not tell them apart: benchmarks/judgement.py. The models
it was averaged from do, as each has seen other real images. Ours; ensembles of uploads as teachers
are known (FedDF, Lin et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regl_app.supplement.discrepancy import Floats
from regl_app.supplement.selection import Flags, Labels

_FLOOR = -5.0
"""Least log-probability of a single model: one that never saw a class must not outvote the rest."""


def consensus(log_p: Sequence[Floats], labels: Labels, weights: Sequence[float]) -> Floats:
    """Return how surely all models together read each image as its label, ``(N,)``, <= 0.

    The weighted mean of their log-probabilities, each at least -5 nats::

        s(x, y) = sum_k w_k max(log p_k(y|x), -5) / sum_k w_k

    Args:
        log_p: each model's log-probabilities, K times ``(N, C)``.
        labels: what the images are meant to show, ``(N,)``.
        weights: w, K numbers: FedAvg's, the images a model was trained on.
    """
    rows = np.arange(len(labels))
    answers = np.stack([np.maximum(each[rows, labels], _FLOOR) for each in log_p])
    result: Floats = np.average(answers, axis=0, weights=weights)
    return result


def upper_half(scores: Floats, labels: Labels) -> Flags:
    """Return whether each image scores at least its class's median, ``(N,)``.

    Args:
        scores: the larger, the better, ``(N,)``.
        labels: the images' classes, ``(N,)``.
    """
    passed = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = labels == label
        passed[members] = scores[members] >= np.median(scores[members])
    return passed
