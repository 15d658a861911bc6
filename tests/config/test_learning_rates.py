"""The learning rate over rounds: golden values of each schedule, and warm-up."""

from __future__ import annotations

import math

import pytest

from regl_app.config.learning_rates import at_round, faint_from, learning_rate
from regl_app.config.sections import TrainConfig


def _rates(rounds: int, **keys: object) -> list[float]:
    config = TrainConfig.model_validate({"lr": 0.8, **keys})
    return [learning_rate(config, number, rounds) for number in range(1, rounds + 1)]


def test_golden_values() -> None:
    assert _rates(3) == [0.8, 0.8, 0.8]
    assert _rates(4, schedule="cosine") == pytest.approx(
        [0.8, 0.4 * (1 + math.sqrt(0.5)), 0.4, 0.4 * (1 - math.sqrt(0.5))]
    )
    assert _rates(5, schedule="step", decay=0.5, decay_every=2) == [0.8, 0.8, 0.4, 0.4, 0.2]
    smooth = _rates(5, schedule="exponential", decay=0.5, decay_every=2)
    assert smooth == pytest.approx([0.8, 0.8 * 0.5**0.5, 0.4, 0.4 * 0.5**0.5, 0.2])


def test_warm_up_rises_to_the_rate_at_which_the_schedule_begins() -> None:
    rates = _rates(6, schedule="cosine", warmup_rounds=3)
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[3:] == pytest.approx(_rates(3, schedule="cosine"))


def test_no_rate_is_zero() -> None:
    for schedule in ("cosine", "step", "exponential"):
        assert min(_rates(50, schedule=schedule, decay=0.1, decay_every=1)) > 0


def test_at_the_end_of_very_many_rounds_a_cosine_is_above_zero_too() -> None:
    many = 10**9
    config = TrainConfig(lr=0.8, schedule="cosine")
    last, before = (learning_rate(config, each, many) for each in (many, many - 1))
    assert 0 < last < before < 1e-16
    assert last == pytest.approx(0.8 * (math.pi / (2 * many)) ** 2)


@pytest.mark.parametrize("schedule", ["step", "exponential"])
@pytest.mark.parametrize(("decay", "every", "warm"), [(0.5, 1, 0), (0.1, 7, 3), (0.9, 10, 1)])
def test_the_round_from_which_next_to_nothing_is_trained(
    schedule: str, decay: float, every: int, warm: int
) -> None:
    keys = {"schedule": schedule, "decay": decay, "decay_every": every, "warmup_rounds": warm}
    config = TrainConfig.model_validate({"lr": 0.8, **keys})
    rates = _rates(3000, **keys)
    first = next(n for n in range(warm + 1, 3001) if rates[n - 1] <= 0.8e-8 * (1 + 1e-9))
    assert faint_from(config, 3000) == first
    assert faint_from(config, first) == first and faint_from(config, first - 1) is None


def test_where_it_falls_to_no_such_rate_there_is_no_such_round() -> None:
    for keys in ({}, {"schedule": "cosine"}, {"schedule": "step", "decay": 1.0}):
        assert faint_from(TrainConfig.model_validate(keys), 10**9) is None


def test_without_a_schedule_nothing_is_made_anew() -> None:
    config = TrainConfig()
    assert at_round(config, 3, 5) is config
    changed = at_round(TrainConfig(schedule="step", decay_every=1), 3, 5)
    assert changed == TrainConfig(schedule="step", decay_every=1, lr=0.0125)
