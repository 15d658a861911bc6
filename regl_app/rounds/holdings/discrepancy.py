"""Holdings guessed from the discrepancy vectors: what a client is surer of than the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regl_app.core.types import Floats, Weights
from regl_app.rounds.exchange import RoundResult


def guessed(start: Weights, uploads: Sequence[RoundResult], num_classes: int) -> Floats:
    """Return ``relu(-d_k[c])``, ``(K, C)``: the sign that FedDPD has no use for.

    Zeros for a client that sends no vector. The vector is measured on synthetic images, with the
    global model that the round began with: in early rounds it sees nearly nothing.
    """
    nothing = np.zeros(num_classes)
    found = [nothing if u.discrepancy is None else u.discrepancy for u in uploads]
    return np.maximum(-np.stack(found), 0.0)
