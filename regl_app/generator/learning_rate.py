"""The learning rate of every training of a generator: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Callable


def warm_cosine(steps: int, warm: int) -> Callable[[int], float]:
    """Return the learning rate over its peak at each of ``steps`` steps, ``warm`` >= 1 to warm up.

    ``(s + 1) / warm`` below ``warm``, from there ``(1 + cos(pi (s - warm) / (steps - warm))) / 2``.
    """

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))

    return rate
