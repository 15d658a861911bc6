"""Stratified draws keep the classes' proportions and their limits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regl_app.data.stratified import stratified_counts, stratified_sample


@given(
    available=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    fraction=st.floats(0, 1.2),
    seed=st.integers(0, 1000),
)
def test_counts_sum_to_the_total_and_stay_near_their_share(
    available: list[int], fraction: float, seed: int
) -> None:
    counts = np.array(available, dtype=np.int64)
    total = round(fraction * counts.sum())
    chosen = stratified_counts(counts, total, counts, np.random.default_rng(seed))
    expected = min(total, int(counts.sum()))
    assert chosen.sum() == expected
    assert ((chosen >= 0) & (chosen <= counts)).all()
    if expected:
        assert (np.abs(chosen - counts * expected / counts.sum()) < 1 + 1e-9).all()


@given(
    labels=st.lists(st.integers(0, 5), max_size=40),
    total=st.integers(0, 50),
    leave_one=st.booleans(),
)
def test_samples_are_distinct_sorted_and_may_leave_one(
    labels: list[int], total: int, leave_one: bool
) -> None:
    values = np.array(labels, dtype=np.int64)
    chosen = stratified_sample(values, total, np.random.default_rng(0), leave_one=leave_one)
    limit = len(labels) - (len(set(labels)) if leave_one else 0)
    assert len(chosen) == min(total, limit)
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.array_equal(chosen, np.sort(chosen))
    if leave_one:
        assert set(np.delete(values, chosen).tolist()) == set(labels)


def test_draws_differ_by_generator() -> None:
    labels = np.zeros(100, dtype=np.int64)
    one, two = (stratified_sample(labels, 10, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one, two)
