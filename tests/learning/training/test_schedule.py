"""The learning rate over rounds: golden values of each schedule, and warm-up."""

from __future__ import annotations

import math

import pytest

from regl_app.config.sections import TrainConfig
from regl_app.learning.training.schedule import at_round, learning_rate


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


def test_without_a_schedule_nothing_is_made_anew() -> None:
    config = TrainConfig()
    assert at_round(config, 3, 5) is config
    changed = at_round(TrainConfig(schedule="step", decay_every=1), 3, 5)
    assert changed == TrainConfig(schedule="step", decay_every=1, lr=0.0125)
