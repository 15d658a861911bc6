"""The learning rate of a round: of configuration and round number alone, so the same everywhere.

Nothing is sent and nothing kept: all clients come to the same rate, and a run that is resumed to
that of an unbroken one.
"""

from __future__ import annotations

import math

from regl_app.config.sections import TrainConfig

LEAST = 2.0**-126
"""The least rate by which anything is trained: float32, in which it is multiplied, has 0 below."""
_FAINT = 1e-8


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
            found = config.lr * (1 + math.cos(math.pi * done / total)) / 2
            # The same in another form: near the end of very many rounds the cosine is rounded to 1.
            return found or config.lr * math.sin(math.pi * (total - done) / (2 * total)) ** 2
        case "step":
            return float(config.lr * config.decay ** (done // config.decay_every))
        case "exponential":
            return float(config.lr * config.decay ** (done / config.decay_every))
        case "constant":
            return config.lr


def faint_from(config: TrainConfig, rounds: int) -> int | None:
    """Return the first of ``rounds`` with 1e-8 of ``train.lr`` or less, by which weights stay.

    None where there is no such round, and for 'cosine', which is that low in its last few at most.
    """
    if config.schedule not in ("step", "exponential") or config.decay == 1:
        return None
    steps = math.log(_FAINT) / math.log(config.decay) - 1e-9  # what is rounded up is none more
    every = config.decay_every
    done = math.ceil(steps) * every if config.schedule == "step" else math.ceil(steps * every)
    first = config.warmup_rounds + 1 + done
    return first if first <= rounds else None


def at_round(config: TrainConfig, round_number: int, rounds: int) -> TrainConfig:
    """Return how to train in round ``round_number`` of ``rounds``: with its learning rate."""
    if not config.scheduled:
        return config
    return config.model_copy(update={"lr": learning_rate(config, round_number, rounds)})
