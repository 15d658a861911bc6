"""How many synthetic images a client trains on in which round: FedDPD's decay, and its rivals.

Choose ``exponential`` (FedDPD) for much supplement while the models know little; ``constant`` and
``linear`` spend the same number of images over the run, so that an ablation compares their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from regl_app.config.choices import SCHEDULES
from regl_app.core.dotted import resolve
from regl_app.core.types import Counts, Floats
from regl_app.supplement.policy import allocate

_ENDLESS = 1e12  # num_images is what a client says: no number of it may overflow


def budgets(
    schedule: str, *, ratio: float, decay: float, rounds: int, num_images: int, most: int
) -> Counts:
    """Return B_1 .. B_T, the images a client of ``num_images`` trains on, int64 ``(T,)``.

    All schedules share the total of the exponential one and differ by its split over rounds::

        exponential: B_t = round(ratio * n_k * exp(-beta_s * (t - 1))),  N_total = sum over t of B_t
        constant: B_t ∝ 1;  linear: B_t ∝ T - t + 1

    Constant and linear are whole numbers that sum to N_total exactly (largest remainder), before
    each B_t is limited to ``most``, what a client can hold (the cap of all its classes).

    Args:
        schedule: the split, of ``SCHEDULES``.
        ratio: images of the exponential schedule's round 1 over the client's real ones.
        decay: beta_s, of a round.
        rounds: T.
        num_images: n_k, the client's real training images.
        most: largest B_t.
    """
    budget = [
        round(min(ratio * num_images * math.exp(-decay * t), _ENDLESS)) for t in range(rounds)
    ]
    planned = np.array(budget, dtype=np.int64)
    split: Callable[[Counts], Counts] = resolve(SCHEDULES[schedule].implementation)
    return np.minimum(split(planned), most)


def exponential(planned: Counts) -> Counts:
    """Return FedDPD's split as it is."""
    return planned


def constant(planned: Counts) -> Counts:
    """Return the same total, the same number in each round."""
    return _spread(planned, np.ones(len(planned)))


def linear(planned: Counts) -> Counts:
    """Return the same total, falling linearly."""
    return _spread(planned, np.arange(len(planned), 0.0, -1.0))


def _spread(planned: Counts, share: Floats) -> Counts:
    total = int(planned.sum())
    return allocate(share, total, np.full(len(planned), total, dtype=np.int64))
