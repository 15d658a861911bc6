"""Holdings as clients tell them: their real images per class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regl_app.core.types import Floats, Weights
from regl_app.rounds.exchange import RoundResult


def told(start: Weights, uploads: Sequence[RoundResult], num_classes: int) -> Floats:
    """Return the label counts ``(K, C)``; zeros for a client that tells none."""
    nothing = np.zeros(num_classes)
    return np.stack([nothing if u.real_counts is None else u.real_counts for u in uploads])
