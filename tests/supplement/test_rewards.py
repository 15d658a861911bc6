import math

import numpy as np
import pytest

from regl_app.config.choices import REWARDS
from regl_app.core.dotted import resolve
from regl_app.supplement.rewards import discrepancy, reading
from regl_app.supplement.selection import PairPredictions, reward

# The client reads class 0 as well as the average does, and nothing of classes 1 and 2.
GLOBAL = np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]])
LOCAL = np.log([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.6, 0.1, 0.3]])
PREDICTIONS = PairPredictions(GLOBAL, LOCAL, np.array([0, 1, 1, 2]))


def test_the_paper_s_reward_is_that_of_selection() -> None:
    assert np.array_equal(discrepancy(PREDICTIONS, 0.5), reward(PREDICTIONS, 0.5))


def test_what_is_read_as_meant_wins_whatever_the_client_says() -> None:
    rewards = reading(PREDICTIONS, 0.5)
    assert rewards == pytest.approx([math.log(p) for p in (0.8, 0.8, 0.6, 0.8)])
    other = PairPredictions(GLOBAL, np.roll(LOCAL, 1, axis=0), PREDICTIONS.labels)
    assert np.array_equal(reading(other, 0.5), rewards)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_is_there(name: str) -> None:
    assert resolve(REWARDS[name].implementation)(PREDICTIONS, 0.5).shape == (4,)
