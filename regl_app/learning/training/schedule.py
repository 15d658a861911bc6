"""The learning rate of a round: of configuration and round number alone, so the same everywhere.

Nothing is sent and nothing kept: all clients come to the same rate, and a run that is resumed to
that of an unbroken one.
"""

from __future__ import annotations

import math

from regl_app.config.sections import TrainConfig


def learning_rate(config: TrainConfig, round_number: int, rounds: int) -> float:
    """Return the rate of round ``round_number``, from 1, of ``rounds``.

    In the w rounds of warm-up it is ``lr t / (w + 1)``. After them, with s rounds of the schedule
    done and n in total: ``lr (1 + cos(pi s / n)) / 2`` (cosine; Loshchilov & Hutter, 2017, by
    rounds), ``lr d^floor(s / e)`` (step), ``lr d^(s / e)`` (exponential), d being ``train.decay``
    and e ``train.decay-every``.
    """
    warm = config.warmup_rounds
    if round_number <= warm:
        return config.lr * round_number / (warm + 1)
    done, total = round_number - warm - 1, rounds - warm
    match config.schedule:
        case "cosine":
            return config.lr * (1 + math.cos(math.pi * done / total)) / 2
        case "step":
            return float(config.lr * config.decay ** (done // config.decay_every))
        case "exponential":
            return float(config.lr * config.decay ** (done / config.decay_every))
        case "constant":
            return config.lr


def at_round(config: TrainConfig, round_number: int, rounds: int) -> TrainConfig:
    """Return how to train in round ``round_number`` of ``rounds``: with its learning rate."""
    if not config.scheduled:
        return config
    return config.model_copy(update={"lr": learning_rate(config, round_number, rounds)})
