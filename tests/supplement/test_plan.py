import numpy as np
import pytest

from regl_app.config import RunConfig
from regl_app.supplement.plan import blind_quotas, client_quotas, measured_quotas, uploaded_quotas

COUNTS = np.array([40, 10, 0, 0])
CLIENT = "client 0"


def config(policy: str, **keys: object) -> RunConfig:
    found = {"policy": policy, "adapter": "frozen", "ratio": 1.0, "decay": 0.5, **keys}
    return RunConfig.from_flat({f"supplement.{key}": value for key, value in found.items()})


@pytest.mark.parametrize("policy", ["none", "equal", "balance", "discrepancy"])
def test_a_client_without_images_gets_none(policy):
    assert client_quotas(config(policy), np.zeros(4, dtype=np.int64), 1, CLIENT).tolist() == [
        0,
        0,
        0,
        0,
    ]


def test_balance_tops_up_as_far_as_the_budget_goes():
    ample = config("balance", ratio=3.0, decay=0.0)
    for number in (1, 7):
        assert client_quotas(ample, COUNTS, number, CLIENT).tolist() == [0, 30, 40, 40]
    first, third = (client_quotas(config("balance"), COUNTS, t, CLIENT) for t in (1, 3))
    assert first.tolist() == [0, 14, 18, 18]
    assert third.tolist() == [0, 5, 7, 6]


def test_equal_spends_a_decaying_budget():
    totals = [client_quotas(config("equal"), COUNTS, t, CLIENT).sum() for t in (1, 2, 3)]
    assert totals == [50, 30, 18]


def test_a_budget_shrinks_with_the_rounds_that_a_client_is_asked_in():
    def totals(**keys: object) -> list[int]:
        found = RunConfig.from_flat(config("equal").to_flat() | keys)
        return [int(client_quotas(found, COUNTS, t, CLIENT).sum()) for t in (1, 2, 3, 9)]

    seldom = totals(**{"server.fraction": 0.25, "rounds": 12})
    assert seldom == [50, 44, 39, 18]  # 50 exp(-0.5 / 4) and so on: in round 9 as else in round 3
    assert totals(rounds=12)[:3] == [50, 30, 18]


def test_discrepancy_starts_from_deficits_then_follows_the_measurement():
    first = client_quotas(config("discrepancy"), COUNTS, 1, CLIENT)
    assert first.sum() == 50
    assert first[0] == 0
    keys = config("discrepancy", momentum=0.0)
    measured = np.array([-0.5, 0, 0.4, 0.1])
    third = measured_quotas(keys, first, measured, 50, 3, CLIENT, measured_round=2)
    assert third.tolist() == [0, 0, 14, 4]


def test_what_is_measured_against_the_untrained_model_changes_no_mix():
    first = client_quotas(config("discrepancy"), COUNTS, 1, CLIENT)
    d = np.array([0.9, 0, 0, 0])
    second = measured_quotas(config("discrepancy"), first, d, 50, 2, CLIENT, measured_round=1)
    assert second.sum() == 30
    assert second[0] == 0
    assert np.abs(second - first * 30 / 50).max() <= 1
    # Nor for a client that sat out the rounds between.
    fifth = measured_quotas(config("discrepancy"), first, d, 50, 5, CLIENT, measured_round=1)
    assert fifth[0] == 0


def test_a_private_client_begins_with_quotas_that_tell_nothing():
    private = RunConfig.from_flat(
        {
            "supplement.ratio": 1.0,
            "supplement.decay": 0.0,
            "privacy.noise": 1.0,
            "share-diagnostics": False,
        }
    )
    assert client_quotas(private, COUNTS, 1, CLIENT).tolist() == [13, 13, 12, 12]
    assert blind_quotas(private, 50, 4, 1, CLIENT).tolist() == [13, 13, 12, 12]


def test_an_uploaded_model_is_measured_from_the_first_round_on():
    keys = config("discrepancy", momentum=0.5, decay=0.0)
    d = np.array([-0.5, 0, 0.3, 0.1])
    first = uploaded_quotas(keys, None, d, 40, 1, CLIENT)
    assert first.tolist() == [0, 0, 30, 10]
    second = uploaded_quotas(keys, first, np.array([0, 1.0, 0, 0]), 40, 2, CLIENT)
    assert second.tolist() == [0, 20, 15, 5]
    assert uploaded_quotas(config("equal"), None, d, 40, 1, CLIENT).tolist() == [10, 10, 10, 10]


def test_downloads_begin_in_round_two_and_spend_the_same_schedule_over_one_round_less():
    keys = config("equal", site="download", ratio=1.0, decay=0.5)
    d = np.zeros(4)
    planned = [uploaded_quotas(keys, None, d, 50, t, CLIENT).sum() for t in (2, 3, 4)]
    assert planned == [50, 30, 18]


MANY = 100
"""Classes, of which each client lacks most."""
PLANNERS = {
    "balance": lambda keys, counts, t, name: client_quotas(keys, counts, t, name),
    "equal": lambda keys, counts, t, name: client_quotas(keys, counts, t, name),
    "discrepancy": lambda keys, counts, t, name: measured_quotas(
        keys, np.zeros(MANY, int), np.zeros(MANY), int(counts.sum()), t, name, measured_round=2
    ),
    "private": lambda keys, counts, t, name: blind_quotas(keys, int(counts.sum()), MANY, t, name),
    "uploaded": lambda keys, counts, t, name: uploaded_quotas(
        keys, None, -np.ones(MANY), int(counts.sum()), t, name
    ),
}


def plans(planner: str, rounds: range, clients: np.ndarray) -> np.ndarray:
    """Return the quotas ``(T, K, C)`` of ``clients`` of such counts ``(K, C)``."""
    policy = planner if planner in ("balance", "equal") else "discrepancy"
    found = config(policy, decay=0.25).updated({"rounds": 16})
    plan = PLANNERS[planner]
    return np.array(
        [[plan(found, c, t, f"client {k}") for k, c in enumerate(clients)] for t in rounds]
    )


def skewed() -> np.ndarray:
    """Return the counts of ten clients of 500 images of few classes each, ``(10, C)``."""
    rng = np.random.default_rng(0)
    return np.array([rng.multinomial(500, rng.dirichlet(np.full(MANY, 0.05))) for _ in range(10)])


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_budget_too_small_for_all_tied_classes_leaves_none_of_them_to_nobody(planner):
    for planned in plans(planner, range(9, 17), skewed()):
        assert 0 < planned.sum(axis=1).min() <= planned.sum(axis=1).max() < MANY
        quarters = planned.sum(axis=0).reshape(4, -1).sum(axis=1)
        assert quarters.min() > quarters.sum() / 8, quarters


@pytest.mark.parametrize("planner", PLANNERS)
def test_later_quotas_lie_within_earlier_ones_so_that_images_are_reused(planner):
    planned = plans(planner, range(1, 17), 500 * np.eye(10, MANY, dtype=np.int64))
    assert (np.diff(planned, axis=0) <= 0).all()
    assert (planned[0].sum(axis=1) > MANY).all() and (planned[-1].sum(axis=1) < MANY / 4).all()


def test_who_goes_first_in_a_tie_is_the_client_s_and_the_run_s():
    one, other = plans("equal", range(12, 13), skewed())[0, :2]
    assert one.sum() == other.sum() < MANY
    assert not np.array_equal(one, other)
    seeded = RunConfig.from_flat(config("equal", ratio=0.1).to_flat() | {"seed": 1})
    counts = np.full(MANY, 5)
    first, second = (
        client_quotas(k, counts, 1, CLIENT) for k in (seeded, seeded.updated({"seed": 2}))
    )
    assert not np.array_equal(first, second)
