import math

import numpy as np
import pytest

from regl_app.config.choices import REWARDS
from regl_app.core.dotted import resolve
from regl_app.supplement.rewards import discrepancy, reading
from regl_app.supplement.selection import PairPredictions, reward

# The client reads class 0 as well as the average does, and nothing of classes 1 and 2; the last
# image of class 2 is one that nobody reads.
GLOBAL = np.log(
    [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]
)
LOCAL = np.log(
    [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.6, 0.1, 0.3], [0.8, 0.1, 0.1]]
)
PREDICTIONS = PairPredictions(GLOBAL, LOCAL, np.array([0, 1, 1, 2, 2]))


def test_the_paper_s_reward_is_that_of_selection() -> None:
    worth = discrepancy(PREDICTIONS, 0.5)
    assert np.array_equal(worth.rewards, reward(PREDICTIONS, 0.5))
    assert worth.needs is None


def test_read_as_meant_wins_whatever_the_client_says() -> None:
    worth = reading(PREDICTIONS, 0.5)
    assert worth.rewards == pytest.approx([math.log(p) for p in (0.8, 0.8, 0.6, 0.8, 0.1)])
    other = PairPredictions(GLOBAL, np.roll(LOCAL, 1, axis=0), PREDICTIONS.labels)
    assert np.array_equal(reading(other, 0.5).rewards, worth.rewards)


def test_the_discrepancy_decides_which_class() -> None:
    needs = reading(PREDICTIONS, 0.5).needs
    assert needs == pytest.approx([0.0, (0.7 + 0.5) / 2, 0.5 / 2])


def test_a_client_that_lacks_nothing_needs_nothing() -> None:
    same = PairPredictions(GLOBAL, GLOBAL, PREDICTIONS.labels)
    needs = reading(same, 0.5).needs
    assert needs is not None
    assert not needs.any()


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_is_there(name: str) -> None:
    worth = resolve(REWARDS[name].implementation)(PREDICTIONS, 0.5)
    assert worth.rewards.shape == (5,)
