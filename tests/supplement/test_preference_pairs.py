import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regl_app.supplement.preference_pairs import rank_pairs

REWARDS = np.array([5.0, 1.0, 3.0, 2.0, 4.0, 0.0, 9.0, 7.0])
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1])


def test_by_hand():
    # Ranked, class 0 is 0, 4, 2, 3, 1, 5 (rewards 5 4 3 2 1 0) and class 1 is 6, 7.
    pairs = rank_pairs(REWARDS, LABELS, 0.34)
    assert pairs.winners.tolist() == [0, 4, 6]
    assert pairs.losers.tolist() == [1, 5, 7]
    assert pairs.margin == pytest.approx((4 + 4 + 2) / 3)


def test_halves_have_the_smaller_margin():
    halves = rank_pairs(REWARDS, LABELS, 0.5)
    assert halves.winners.tolist() == [0, 4, 2, 6]
    assert halves.losers.tolist() == [3, 1, 5, 7]
    assert halves.margin < rank_pairs(REWARDS, LABELS, 0.2).margin


def test_a_class_of_one_image_makes_no_pair():
    pairs = rank_pairs(np.array([1.0]), np.array([3]), 0.5)
    assert len(pairs.winners) == 0
    assert pairs.margin == 0.0


@given(st.integers(0, 40), st.integers(1, 4), st.floats(0.01, 0.5), st.integers(0, 2**32 - 1))
def test_winners_beat_losers_of_their_class(images, classes, quantile, seed):
    rng = np.random.default_rng(seed)
    rewards, labels = rng.normal(size=images), rng.integers(0, classes, images)
    pairs = rank_pairs(rewards, labels, quantile)
    assert (labels[pairs.winners] == labels[pairs.losers]).all()
    assert (rewards[pairs.winners] >= rewards[pairs.losers]).all()
    used = [*pairs.winners.tolist(), *pairs.losers.tolist()]
    assert len(set(used)) == len(used)
    large = np.bincount(labels, minlength=classes) > 1
    assert set(labels[pairs.winners]) == set(np.flatnonzero(large))
