"""How many synthetic images a client trains on in which round: FedDPD's decay, and its rivals.

Choose ``exponential`` (FedDPD) for much supplement while the models know little; ``constant`` and
``linear`` spend the same number of images over the run, so that an ablation compares their order.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from regl_app.data.images import Counts
from regl_app.supplement.policy import allocate

Schedule = Literal["exponential", "constant", "linear"]


def budgets(
    schedule: Schedule, *, ratio: float, decay: float, rounds: int, num_images: int, most: int
) -> Counts:
    """Return B_1 .. B_T, the images a client of ``num_images`` trains on, int64 ``(T,)``.

    All schedules share the total of the exponential one and differ by its split over rounds::

        N_total = sum over t of  ratio * n_k * exp(-beta_s * (t - 1))
        exponential: B_t ∝ exp(-beta_s * (t - 1));  constant: B_t ∝ 1;  linear: B_t ∝ T - t + 1

    The B_t are whole numbers that sum to round(N_total) exactly (largest remainder), before each is
    limited to ``most``, what a client can hold (the cap of all its classes).

    Args:
        schedule: the split.
        ratio: images of the exponential schedule's round 1 over the client's real ones.
        decay: beta_s.
        rounds: T.
        num_images: n_k, the client's real training images.
        most: largest B_t.
    """
    exponential = np.exp(-decay * np.arange(rounds, dtype=np.float64))
    total = round(ratio * num_images * math.fsum(exponential))
    shares: dict[Schedule, npt.NDArray[np.float64]] = {
        "exponential": exponential,
        "constant": np.ones(rounds),
        "linear": np.arange(rounds, 0, -1, dtype=np.float64),
    }
    planned = allocate(shares[schedule], total, np.full(rounds, total, dtype=np.int64))
    return np.minimum(planned, most)
