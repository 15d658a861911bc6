"""What all uploaded models together say of an image."""

from __future__ import annotations

import numpy as np
import pytest

from regl_app.supplement.consensus import consensus, upper_half

LABELS = np.array([0, 1])


def test_golden_values() -> None:
    one = np.log([[0.9, 0.1], [0.2, 0.8]])
    other = np.log([[0.5, 0.5], [0.6, 0.4]])
    expected = [(3 * np.log(0.9) + np.log(0.5)) / 4, (3 * np.log(0.8) + np.log(0.4)) / 4]
    assert consensus([one, other], LABELS, [3, 1]) == pytest.approx(expected)


def test_one_model_that_never_saw_a_class_does_not_outvote_the_rest() -> None:
    sure = np.log([[0.9, 0.1], [0.1, 0.9]])
    blind = np.array([[0.0, -700.0], [0.0, -np.inf]])
    doubtful = np.log([[0.9, 0.1], [0.6, 0.4]])
    scores = consensus([sure, blind], LABELS, [1, 1]), consensus([doubtful, blind], LABELS, [1, 1])
    assert scores[0][1] == pytest.approx((np.log(0.9) - 5) / 2)
    assert scores[1][1] < scores[0][1]


def test_the_upper_half_is_that_of_every_class() -> None:
    scores = np.array([-1.0, -2.0, -3.0, -9.0, -8.0, -4.0])
    labels = np.array([0, 0, 0, 1, 1, 0])
    assert upper_half(scores, labels).tolist() == [True, True, False, False, True, False]
