import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regl_app.core.errors import ProtocolError
from regl_app.learning.evaluation.label_fit import precision
from regl_app.supplement.selection import PairPredictions, is_discrepant, reward, select


def predictions(p_global, p_local, labels) -> PairPredictions:
    with np.errstate(divide="ignore"):
        return PairPredictions(
            np.log(np.array(p_global, dtype=float)),
            np.log(np.array(p_local, dtype=float)),
            np.array(labels, dtype=np.int64),
        )


# The global model has learned both classes; the local one calls everything class 0.
TAUGHT, SKEWED = [0.9, 0.1], [0.95, 0.05]
PAIR = predictions([TAUGHT, TAUGHT[::-1]], [SKEWED, SKEWED], [0, 1])


def test_the_rewards_sign():
    of_class_0, of_class_1 = reward(PAIR, disagreement=0.0)
    assert of_class_1 > 0 > of_class_0  # class 1 is what the local model lacks
    assert is_discrepant(PAIR).tolist() == [False, True]


def test_golden_values():
    assert reward(PAIR, disagreement=0.5) == pytest.approx(
        [math.log(0.9 / 0.95), math.log(0.9 / 0.05) + 0.5]
    )


def test_what_the_global_model_cannot_read_is_not_discrepant():
    unsure = predictions([[0.4, 0.3, 0.3]], [[0.8, 0.1, 0.1]], [1])
    assert reward(unsure, 0.0)[0] > 0
    assert not is_discrepant(unsure)[0]


def test_a_certain_model_is_no_infinity():
    certain = predictions([[0.0, 1.0]], [[1.0, 0.0]], [1])
    assert np.isfinite(reward(certain, 1.0)).all()
    assert is_discrepant(certain).tolist() == [True]


POOL = predictions(
    # 0: lags a little, 1: lags much, 2: knows better, 3: global cannot read it, 4: of class 1
    [[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]],
    [[0.5, 0.5], [0.1, 0.9], [0.9, 0.1], [0.01, 0.99], [0.2, 0.8]],
    [0, 0, 0, 0, 1],
)


@pytest.mark.parametrize(
    ("quota", "chosen", "discrepant"), [(1, [1], 1), (2, [1, 0], 2), (3, [1, 0, 2], 2)]
)
def test_the_best_of_the_filtered_come_first(quota: int, chosen: list[int], discrepant: int):
    found = select(POOL, np.array([quota, 0]), disagreement=0.0, filtered=True)
    assert found.indices.tolist() == chosen
    assert found.discrepant == discrepant


def test_without_the_filter_the_reward_alone_decides():
    found = select(POOL, np.array([2, 1]), disagreement=0.0, filtered=False)
    assert found.indices.tolist() == [3, 1, 4]
    assert found.discrepant == 2


@given(st.integers(1, 6), st.integers(0, 60), st.booleans(), st.integers(0, 2**32 - 1))
def test_quotas_are_filled_as_far_as_the_pool_goes(classes, images, filtered, seed):
    rng = np.random.default_rng(seed)
    p_global, p_local = rng.dirichlet(np.ones(classes), (2, images))
    labels = rng.integers(0, classes, images)
    quotas = rng.integers(0, 20, classes)
    pool = predictions(p_global.reshape(images, classes), p_local.reshape(images, classes), labels)
    found = select(pool, quotas, disagreement=1.0, filtered=filtered)
    counts = np.bincount(labels[found.indices], minlength=classes)
    assert len(set(found.indices.tolist())) == len(found.indices)
    assert counts.tolist() == np.minimum(quotas, np.bincount(labels, minlength=classes)).tolist()
    passed = is_discrepant(pool)
    assert found.discrepant == passed[found.indices].sum()
    if filtered:
        for c in range(classes):
            left = set(np.flatnonzero((labels == c) & passed)) - set(found.indices.tolist())
            unfit = (labels[found.indices] == c) & ~passed[found.indices]
            assert not left or not unfit.any()


def test_precision_counts_classes_that_are_rarer_here_than_overall():
    held, overall = np.array([8, 2, 0]), np.array([10, 10, 10])
    assert precision(np.array([0, 1, 3]), held, overall) == 1.0
    assert precision(np.array([1, 1, 2]), held, overall) == 0.75
    assert precision(np.zeros(3, dtype=int), held, overall) is None
    # A long tail: that few of class 2 are held is no lack where few exist.
    assert precision(np.array([0, 0, 4]), np.array([8, 1, 1]), np.array([80, 10, 10])) == 0.0


@pytest.mark.parametrize(
    ("p_local", "labels", "message"),
    [
        ([[0.5, 0.5]], [0, 1], "log_p_global must be one row per image"),
        ([[0.5, 0.3, 0.2]], [0], "log_p_local must be one row per image and one column"),
        ([[math.nan, 0.5]], [0], "diverged"),
        ([[0.5, 0.5]], [2], "labels must be < 2, got 2"),
    ],
)
def test_malformed_predictions_are_refused(p_local, labels, message):
    with pytest.raises(ProtocolError, match=message):
        predictions([[0.5, 0.5]], p_local, labels)
