from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regl_app.learning.evaluation.label_fit import jensen_shannon, label_fits, total_variation

HISTOGRAM = st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any).map(np.array)


def test_golden_values() -> None:
    one, other = np.array([1, 0]), np.array([1, 1])
    assert total_variation(one, other) == 0.5
    # H(3/4, 1/4) - (H(1, 0) + H(1/2, 1/2)) / 2, in bits
    divergence = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    assert jensen_shannon(one, other) == pytest.approx(math.sqrt(divergence))


@given(HISTOGRAM, HISTOGRAM)
def test_both_are_distances_of_distributions(one: np.ndarray, other: np.ndarray) -> None:
    for distance in (jensen_shannon, total_variation):
        found = distance(one, other)
        assert 0 <= found <= 1 + 1e-12
        assert found == pytest.approx(distance(other, one), abs=1e-7)
        assert distance(one, 3 * one) == pytest.approx(0, abs=1e-7)


def test_a_supplement_is_judged_by_what_all_clients_hold() -> None:
    real = [np.array([30, 0]), np.array([0, 10]), None, np.array([0, 0])]
    added = [np.array([0, 10]), np.array([0, 5]), np.array([1, 1]), np.array([0, 0])]
    fits = label_fits(real, added, np.array([30, 10]))
    assert fits[2] is None
    assert fits[3] is None
    first, second = fits[0], fits[1]
    assert first is not None
    assert second is not None
    assert (first.tv_before, first.tv_after, first.js_after) == (0.25, 0.0, 0.0)
    assert first.precision == 1.0
    # Client 1 holds nothing but class 1 and was given more of it.
    assert second.precision == 0.0
    assert second.js_after == second.js_before > 0


def test_without_a_supplement_nothing_changes_and_nothing_is_precise() -> None:
    overall = np.array([4, 4])
    (fit, _) = label_fits([np.array([3, 1]), np.array([1, 3])], [np.zeros(2, int)] * 2, overall)
    assert fit is not None
    assert (fit.js_after, fit.tv_after) == (fit.js_before, fit.tv_before)
    assert fit.precision is None
