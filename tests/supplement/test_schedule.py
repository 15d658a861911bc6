import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regl_app.supplement.schedule import budgets

SCHEDULES = ("exponential", "constant", "linear")


def plan(schedule: str, rounds: int = 3, **keys: float) -> list[int]:
    found = {"ratio": 2.0, "decay": 0.5, "num_images": 100, "most": 10_000} | keys
    return budgets(schedule, rounds=rounds, **found).tolist()


def test_golden_values():
    # 200, 121.3 and 73.6 images, rounded: 395 over three rounds.
    assert plan("exponential") == [200, 121, 74]
    assert plan("constant") == [132, 132, 131]
    assert plan("linear") == [197, 132, 66]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_client_without_images_gets_none(schedule: str):
    assert plan(schedule, num_images=0) == [0, 0, 0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_round_plans_more_than_a_client_can_hold(schedule: str):
    assert plan(schedule, most=100) == [min(100, each) for each in plan(schedule)]


@given(
    st.sampled_from(SCHEDULES),
    st.floats(0, 10),
    st.floats(0, 3),
    st.integers(1, 40),
    st.integers(0, 3000),
)
def test_every_schedule_spends_the_same_total(schedule, ratio, decay, rounds, num_images):
    keys = {"ratio": ratio, "decay": decay, "num_images": num_images, "most": 10**9}
    planned = budgets(schedule, rounds=rounds, **keys)
    assert planned.sum() == budgets("exponential", rounds=rounds, **keys).sum()
    exact = [ratio * num_images * math.exp(-decay * t) for t in range(rounds)]
    assert abs(planned.sum() - math.fsum(exact)) <= 0.5 * rounds
    assert (np.diff(planned) <= 0).all()
    if schedule == "exponential":
        assert np.abs(planned - exact).max() <= 0.5
