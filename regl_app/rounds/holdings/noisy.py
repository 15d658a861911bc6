"""Holdings as clients tell them under noise (``disclosure.shared_noisy_counts``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regl_app.core.types import Floats, Weights
from regl_app.rounds.exchange import RoundResult


def told(start: Weights, uploads: Sequence[RoundResult], num_classes: int) -> Floats:
    """Return the noisy label counts ``(K, C)``, those below zero as zero.

    What is done with what has left a client costs it no more privacy (post-processing).
    """
    nothing = np.zeros(num_classes)
    found = [nothing if u.noisy_counts is None else u.noisy_counts for u in uploads]
    return np.maximum(np.stack(found), 0.0)
