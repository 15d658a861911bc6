"""Whose quotas the server plans, and for which round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.federate import federate
from regl_app.rounds.sites.client import ClientSite
from regl_app.supplement.plan import budget, client_quotas
from server_app.checkpoint_state import ServerMemory

CONFIG = RunConfig.from_flat(
    {"method": "regl-dpd", "supplement.adapter": "frozen", "supplement.ratio": 3.0}
)


def result(key: int, number: int, lacks: int, images: int = 100) -> RoundResult:
    return RoundResult(
        *(key, number, images, images, 0.1, {}),
        discrepancy=np.eye(4)[lacks],
        held=np.array([40, 40, 0, 20]),
    )


def test_who_sat_out_some_rounds_spends_the_budget_of_the_one_it_is_asked_in() -> None:
    site = ClientSite(CONFIG, 4)
    site.before_average(2, {0: result(0, 2, 1), 1: result(1, 2, 3, images=50)})
    for number in (3, 4, 8):
        for key, images in ((0, 100), (1, 50)):
            quotas = site.quotas(key, number)
            assert quotas is not None
            assert quotas.sum() == budget(CONFIG, images, 4, number)
        site.before_average(number, {1: result(1, number, 3, images=50)})
    assert site.quotas(2, 9) is None


def test_what_was_measured_survives_in_a_checkpoint() -> None:
    here, there = ClientSite(CONFIG, 4), ClientSite(CONFIG, 4)
    here.before_average(2, {0: result(0, 2, 1)})
    memory = ServerMemory("run", **here.memory()).to_tensors()
    there.restore(vars(ServerMemory.from_tensors(memory)))
    for number in (3, 7):
        one, other = here.quotas(0, number), there.quotas(0, number)
        assert one is not None and other is not None and one.tolist() == other.tolist()


def test_the_server_knows_what_a_private_client_began_with() -> None:
    keys = {"privacy.noise": 1.0, "share-diagnostics": False, "supplement.ratio": 0.05}
    private = CONFIG.updated(keys)
    site = ClientSite(private, 20)
    counts = np.full(20, 5)
    blind = RoundResult(*(3, 1, 100, 100, 0.1, {}), discrepancy=np.zeros(20))
    site.before_average(1, {3: blind})
    (held,) = (each.held for each in site.memory()["measured"].values())
    assert held.sum() == 5
    assert held.tolist() == client_quotas(private, counts, 1, "client 3").tolist()
    # By index it would be the first five.
    assert not held[:5].all()


@pytest.mark.usefixtures("short_calibration")
def test_a_client_that_keeps_its_vector_plans_as_the_server_would_after_rounds_without_it(
    small_settings: dict[str, Scalar], quick_generator: dict[str, Scalar], tmp_path: Path
) -> None:
    keys: dict[str, Scalar] = {
        **small_settings,
        **quick_generator,
        "method": "regl-dpd",
        "rounds": 6,
        "server.fraction": 0.5,
        "supplement.adapter": "frozen",
        "share-diagnostics": False,
        "cache-dir": str(tmp_path),
    }
    told = federate(RunConfig.from_flat(keys), 4)
    kept = federate(RunConfig.from_flat({**keys, "privacy.vector": "client"}), 4)
    asked = [set(each.results) for each in told.rounds[1:]]
    assert any(not one <= two for one, two in zip(asked[1:], asked, strict=False))
    # Other images anywhere would make other models.
    assert [each.metrics for each in kept.rounds] == [each.metrics for each in told.rounds]
