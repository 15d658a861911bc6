"""What preference optimization takes an image to be worth to a client: a line of ``REWARDS`` each.

A function of the predictions on a pool and lambda, the bonus of disagreeing, to ``Worth``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regl_app.core.types import Floats
from regl_app.supplement.discrepancy import class_discrepancy
from regl_app.supplement.selection import PairPredictions, reward


@dataclass(frozen=True)
class Worth:
    """What images are worth, ``(N,)``, the larger the more, and how much of each class to draw.

    ``needs`` ``(C,)`` >= 0 weighs the pairs of each class; None: all pairs are drawn alike.
    """

    rewards: Floats
    needs: Floats | None = None


def discrepancy(predictions: PairPredictions, disagreement: float) -> Worth:
    """Return FedDPD's reward: what the global model reads and the local one does not.

    Within a class it is largest where the local model reads least, which is where an image looks
    like another class (docs/feddpd-results.md).
    """
    return Worth(reward(predictions, disagreement))


def reading(predictions: PairPredictions, disagreement: float) -> Worth:
    """Return how surely the global model reads an image as meant, ``log p_G(y|x)`` (ours).

    Which class is drawn is what the discrepancy decides: ``relu(d)`` of the pool's images, so that
    a client's adapter learns to draw what this client lacks. All alike where it lacks nothing.
    """
    needs = np.maximum(
        class_discrepancy(
            predictions.log_p_global,
            predictions.log_p_local,
            predictions.labels,
            predictions.num_classes,
        ),
        0.0,
    )
    return Worth(predictions.of_label()[0], needs)
