"""The exponential long tail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.core.errors import DataError
from regl_app.data.long_tail import long_tail_counts, long_tail_indices


def test_golden_counts() -> None:
    kept = long_tail_counts(np.full(5, 1000), 100.0)
    # 1000 * 100 ** (-c / 4)
    assert kept.tolist() == [1000, 316, 100, 32, 10]


def test_a_class_keeps_no_more_than_it_has_and_at_least_one() -> None:
    kept = long_tail_counts(np.array([10, 2, 5, 0, 7]), 1000.0)
    assert kept.tolist() == [10, 2, 1, 0, 1]


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    factor=st.floats(1, 200),
    seed=st.integers(0, 99),
)
def test_indices_hold_exactly_the_counts(counts: list[int], factor: float, seed: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kept = long_tail_indices(labels, len(counts), factor, seed)
    expected = long_tail_counts(np.array(counts, dtype=np.int64), factor)
    assert np.bincount(labels.numpy()[kept], minlength=len(counts)).tolist() == expected.tolist()
    assert np.array_equal(kept, np.unique(kept))


def test_the_seed_decides_which_images_stay() -> None:
    labels = torch.repeat_interleave(torch.arange(3), 50)
    assert np.array_equal(long_tail_indices(labels, 3, 10, 0), long_tail_indices(labels, 3, 10, 0))
    assert not np.array_equal(
        long_tail_indices(labels, 3, 10, 0), long_tail_indices(labels, 3, 10, 1)
    )


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(DataError, match=r"long-tail\.factor must be >= 1, got 0\.5"):
        long_tail_counts(np.array([3, 3]), 0.5)
