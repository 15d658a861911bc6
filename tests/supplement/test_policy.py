import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from regl_app.supplement.policy import (
    allocate,
    balance_quotas,
    bootstrap_quotas,
    discrepancy_quotas,
    equal_quotas,
)

CLASSES = st.integers(1, 12)


@st.composite
def allocations(draw):
    classes = draw(CLASSES)
    weights = draw(
        hnp.arrays(np.float64, classes, elements=st.floats(0, 1e6, allow_subnormal=True))
    )
    room = draw(hnp.arrays(np.int64, classes, elements=st.integers(0, 300)))
    return weights, draw(st.integers(0, 2000)), room


@given(allocations())
def test_allocate_gives_out_exactly_the_total_within_the_room(case):
    weights, total, room = case
    quotas = allocate(weights, total, room)
    assert quotas.dtype == np.int64
    assert (quotas >= 0).all()
    assert (quotas <= room).all()
    assert quotas.sum() == min(total, room.sum())


@given(allocations())
def test_allocate_feeds_weightless_classes_last(case):
    weights, total, room = case
    quotas = allocate(weights, total, room)
    if quotas[weights == 0].sum() > 0:
        assert (quotas == room)[weights > 0].all()


@given(CLASSES, st.integers(0, 1000), st.data())
def test_allocate_without_limits_is_within_one_of_proportional(classes, total, data):
    weights = data.draw(hnp.arrays(np.float64, classes, elements=st.floats(0.01, 10)))
    quotas = allocate(weights, total, np.full(classes, 10_000))
    assert (np.abs(quotas - total * weights / weights.sum()) < 1 + 1e-6).all()


def test_allocate_by_hand():
    room = np.full(3, 100)
    assert allocate([1, 1, 1], 10, room).tolist() == [4, 3, 3]
    assert allocate([5, 3, 2], 7, room).tolist() == [4, 2, 1]
    assert allocate([1, 1, 0], 10, np.array([2, 3, 9])).tolist() == [2, 3, 5]
    assert allocate([0, 0, 0], 4, room).tolist() == [2, 1, 1]


def test_ties_go_to_the_lower_class_as_long_as_all_of_the_tied_get_something():
    room, ties = np.full(4, 100), np.array([3, 2, 1, 0])
    assert allocate([1, 1, 1, 1], 6, room, ties).tolist() == [2, 2, 1, 1]
    assert allocate([1, 1, 1, 1], 3, room).tolist() == [1, 1, 1, 0]
    assert allocate([1, 1, 1, 1], 3, room, ties).tolist() == [0, 1, 1, 1]
    # The two heavy classes tie as well, but neither goes without.
    assert allocate([9, 9, 1, 1], 19, room, ties).tolist() == [9, 8, 1, 1]
    assert allocate([9, 9, 1, 1], 21, room, ties).tolist() == [10, 9, 1, 1]
    # Full classes leave the rest to those that were to have nothing.
    assert allocate([1, 0, 0, 0], 4, np.array([2, 9, 9, 9]), ties).tolist() == [2, 0, 1, 1]


@given(allocations(), st.randoms())
def test_ties_change_nothing_where_by_index_none_of_them_would_go_without(case, random):
    weights, total, room = case
    ties = np.array(random.sample(range(len(room)), len(room)))
    plain, other = allocate(weights, total, room), allocate(weights, total, room, ties)
    assert plain.sum() == other.sum()
    if (plain[room > 0] > 0).all():
        assert plain.tolist() == other.tolist()


@pytest.mark.parametrize("bad", [[-1.0, 1.0], [np.nan, 1.0], [np.inf, 1.0], [1.0]])
def test_allocate_refuses_bad_weights(bad):
    with pytest.raises(ValueError, match="weights"):
        allocate(bad, 3, np.array([5, 5]))


@given(
    hnp.arrays(np.int64, CLASSES, elements=st.integers(0, 500)),
    st.integers(0, 400),
    st.integers(0, 200),
)
def test_balance_tops_up_to_the_target(counts, target, cap):
    quotas = balance_quotas(counts, target, cap)
    goal = target or counts.max()
    assert ((quotas >= 0) & (quotas <= cap)).all()
    uncapped = quotas < cap
    assert (counts + quotas >= goal)[uncapped].all()
    assert (quotas[counts >= goal] == 0).all()


def test_balance_of_a_client_without_images_is_nothing():
    assert balance_quotas(np.zeros(4, dtype=np.int64), 0, 100).tolist() == [0, 0, 0, 0]


@given(hnp.arrays(np.int64, CLASSES, elements=st.integers(0, 500)), st.integers(0, 3000))
def test_bootstrap_spends_its_budget_on_deficits(counts, total):
    quotas = bootstrap_quotas(counts, total, 120)
    assert quotas.sum() == min(total, 120 * len(counts))
    largest = counts == counts.max()
    if not largest.all() and quotas[largest].sum() > 0:
        assert (quotas[~largest] == 120).all()


@given(CLASSES, st.integers(0, 1000))
def test_equal_differs_by_at_most_one(classes, total):
    quotas = equal_quotas(classes, total, 10_000)
    assert quotas.sum() == total
    assert quotas.max() - quotas.min() <= 1


@given(
    CLASSES,
    st.integers(0, 500),
    st.floats(0, 4),
    st.floats(0, 1),
    st.integers(0, 200),
    st.data(),
)
def test_discrepancy_spends_exactly_the_budget(classes, total, gamma, momentum, cap, data):
    last = data.draw(hnp.arrays(np.int64, classes, elements=st.integers(0, cap)))
    lacking = data.draw(hnp.arrays(np.float64, classes, elements=st.floats(-1, 1)))
    quotas = discrepancy_quotas(last, lacking, total, gamma=gamma, momentum=momentum, cap=cap)
    assert (quotas >= 0).all()
    assert (quotas <= cap).all()
    assert quotas.sum() == min(total, cap * classes)


def follow(d, total, last=(0, 0, 0, 0), gamma=1.0, momentum=0.0, cap=100):
    quotas = discrepancy_quotas(np.array(last), d, total, gamma=gamma, momentum=momentum, cap=cap)
    return quotas.tolist()


def test_discrepancy_follows_positive_gaps_only():
    d = [-0.9, 0.6, 0.2, 0.0]
    assert follow(d, 8) == [0, 6, 2, 0]
    assert follow(d, 10, gamma=2.0) == [0, 9, 1, 0]
    assert follow(d, 8, gamma=0.0) == [0, 4, 4, 0]
    assert follow(d, 8, cap=5) == [0, 5, 3, 0]


def test_discrepancy_keeps_a_part_of_what_it_taught():
    d, last = [0.0, 0.0, 0.3, 0.1], [0, 10, 10, 0]
    assert follow(d, 40, last, momentum=0.5) == [0, 10, 25, 5]
    assert follow(d, 40, last, momentum=1.0) == [0, 20, 20, 0]
    assert follow([-1.0, -0.1, 0.0, 0.0], 8, last, momentum=0.5) == [0, 4, 4, 0]
    assert follow([-1.0, -0.1, 0.0, 0.0], 8) == [2, 2, 2, 2]
