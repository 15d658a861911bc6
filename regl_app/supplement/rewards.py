"""What preference optimization takes an image to be worth: one function for a line of ``REWARDS``.

Each maps the predictions on a pool, N images, and lambda, the bonus of disagreeing, to rewards
``(N,)``: of two images of a class, the one of the larger reward wins.
"""

from __future__ import annotations

from regl_app.core.types import Floats
from regl_app.supplement.selection import PairPredictions, reward


def discrepancy(predictions: PairPredictions, disagreement: float) -> Floats:
    """Return FedDPD's reward: what the global model reads and the local one does not.

    Within a class it is largest where the local model reads least, which is where an image looks
    like another class (docs/feddpd-results.md).
    """
    return reward(predictions, disagreement)


def reading(predictions: PairPredictions, disagreement: float) -> Floats:
    """Return how surely the global model reads an image as meant, ``log p_G(y|x)`` (ours).

    Which class a client gets more of is what its quotas say; all classes' pairs are drawn alike.
    """
    return predictions.of_label()[0]
