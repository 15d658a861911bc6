"""Holdings guessed from what the server sees anyway: how a client moved its last layer.

The usual readings, how a class's bias or the sum of its row moved (Wainakh et al., PETS 2022),
count real and synthetic images alike, and the supplement evens these out. What tells them apart is
that real images lengthen the row of their class (benchmarks/who_holds_what.py compares).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regl_app.core.types import Floats, Weights
from regl_app.rounds.exchange import RoundResult

_ROWS = "head.weight"


def guessed(start: Weights, uploads: Sequence[RoundResult], num_classes: int) -> Floats:
    """Return guessed label counts ``(K, C)``: ``n_k relu(u_k[c]) / sum_c' relu(u_k[c'])``.

    ``u_k[c] = <W_k[c] - W[c], W[c]> / |W[c]|``, W the last layer's rows in the global model that
    the round began with, ``n_k`` a client's real images. In round 1 these rows have no direction
    yet: there ``u_k[c]`` is how far the row's change is from its mean over clients, less the mean
    of that over classes. A client whose rows all shrink is taken to hold nothing.
    """
    rows = start[_ROWS].detach().cpu().double()
    weights = [upload.weights or {} for upload in uploads]
    moved = torch.stack([state[_ROWS].detach().cpu().double() for state in weights]) - rows
    if uploads[0].round > 1:
        along = (moved * rows).sum(dim=2) / rows.norm(dim=1).clamp_min(1e-12)
    else:
        apart = (moved - moved.mean(dim=0)).norm(dim=2)
        along = apart - apart.mean(dim=1, keepdim=True)
    seen: Floats = along.clamp_min(0).numpy()
    images = np.array([[upload.real_images] for upload in uploads], dtype=np.float64)
    whole = seen.sum(axis=1, keepdims=True)
    guess: Floats = images * seen / np.where(whole > 0, whole, 1.0)
    return guess
