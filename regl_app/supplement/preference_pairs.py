"""Which of two images a client should rather have: pairs for preference optimization (FedDPD)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regl_app.core.types import Floats, Indices, Labels


@dataclass(frozen=True)
class Pairs:
    """Preferred and refused images of the same class, as indices in a pool, each ``(M,)``.

    ``margin`` is the mean difference of their rewards: what the pairing can teach.
    """

    winners: Indices
    losers: Indices
    margin: float


def rank_pairs(rewards: Floats, labels: Labels, quantile: float) -> Pairs:
    """Pair each class's best ``quantile`` of images with its worst, by rank.

    Of n images of a class, the i-th best meets the one ``n - k`` ranks below it, k being
    ``quantile * n``: every pair has the same rank gap. With 0.5, halves, the gap is the
    smallest, and images in the middle make noisy pairs. Classes of fewer than two make none.

    Args:
        rewards: how much the client lacks each image, ``(N,)``.
        labels: their classes, ``(N,)``.
        quantile: share of a class's images that win, in (0, 0.5].
    """
    winners, losers = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(-rewards[members], kind="stable")]
        count = min(max(1, int(quantile * len(ranked))), len(ranked) // 2)
        winners.append(ranked[:count])
        losers.append(ranked[len(ranked) - count :])
    won, lost = np.concatenate(winners), np.concatenate(losers)
    margin = float((rewards[won] - rewards[lost]).mean()) if len(won) else 0.0
    return Pairs(won, lost, margin)
