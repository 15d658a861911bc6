"""Site download: whoever is asked late spends the budget of the round that it is asked in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.types import Weights
from regl_app.data.images import ImageSet
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.server_supplement import ClientShare, ServerSupplement
from regl_app.rounds.sites.download import DownloadSite
from regl_app.rounds.sites.site import Results
from regl_app.supplement.payload import unpack
from regl_app.supplement.plan import budget
from server_app.checkpoint_state import ServerMemory

SHAPE = (1, 8, 8)
REAL = 20


class Made:
    """Stands in for the server's supplement: each client's whole budget, of class 0 thrice."""

    pool_digest, num_classes = "", 2

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.seconds: dict[str, float] = {"generate": 1.0}
        self.known: set[int] = set()

    def make(self, number: int, weights: Weights, results: Results) -> dict[int, ClientShare]:
        total = budget(self.config, REAL, 2, number)
        labels = (torch.arange(total) * 4 >= 3 * total).long()
        self.known |= set(results)
        share = ClientShare(np.zeros(2), np.bincount(labels), self._of(labels))
        return dict.fromkeys(results, share)

    def knows(self, partition_id: int) -> bool:
        return partition_id in self.known

    def unmeasured(self, partition_id: int, real_images: int, number: int) -> Any:
        return self._of(torch.arange(budget(self.config, real_images, 2, number)) % 2)

    def _of(self, labels: torch.Tensor) -> Any:
        pixels = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
        images = ImageSet(pixels.expand(-1, *SHAPE), labels)
        return SimpleNamespace(
            images=images, indices=None, client_generator=None, facts={}, seconds={"generate": 0.5}
        )

    def memory(self) -> dict[str, Any]:
        return {"held": {}, "preferred": {}, "tuned": {}}

    def restore(self, held: Any, preferred: Any, tuned: Any) -> None:
        pass


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.from_flat(
        {
            "method": "feddpd",
            "supplement.site": "download",
            "supplement.ratio": 2.0,
            "supplement.decay": 1.0,
            "supplement.cap": 100,
            "pool.per-class": 200,
            "labels.by": "hard",
            "server.fraction": 0.5,
            "rounds": 12,
        }
    )


def site(config: RunConfig) -> DownloadSite:
    return DownloadSite(config, cast(ServerSupplement, Made(config)), {})


def test_what_waits_is_cut_to_the_budget_of_its_round(config: RunConfig) -> None:
    planned = site(config)
    planned.after_average(1, {}, {0: RoundResult(0, 1, REAL, REAL, 0.0, {})})
    now = planned.payload(0, 2)
    assert now is not None and now is planned._payloads[0]  # nothing is packed anew
    assert len(now.labels) == budget(config, REAL, 2, 2) == 40
    resumed = site(config)
    memory = ServerMemory("run", **planned.memory()).to_tensors()
    resumed.restore(vars(ServerMemory.from_tensors(memory)))
    for each in (planned, resumed):
        later = each.payload(0, 5)
        total = budget(config, REAL, 2, 5)
        assert later is not None and len(later.labels) == total == 9
        found = unpack(later, SHAPE, None)
        assert found.counts(2).tolist() == [7, 2]  # the mix of 30 and 10
        assert found.images[:, 0, 0, 0].tolist() == [*range(7), 30, 31]  # the best come first
        assert budget(config, REAL, 2, 12) == 0 and each.payload(0, 12) is None


def test_who_has_never_answered_gets_as_many_of_each_class(config: RunConfig) -> None:
    planned = site(config)
    result = RoundResult(0, 1, REAL, REAL, 0.0, {})
    assert planned.payload(1, 1) is None  # nobody is known
    planned.after_average(1, {}, {0: result})
    assert planned.seconds == {"generate": 1.0}
    other = planned.payload(1, 2)
    assert other is not None and unpack(other, SHAPE, None).counts(2).tolist() == [20, 20]
    assert planned.payload(1, 12) is None  # a budget that has decayed to nothing
    assert planned.payload(-1, 2) is None  # a node of no partition
    planned.after_average(2, {}, {1: result})
    assert planned.seconds == {"generate": 2.0}  # with what was made twice for who was not known
    mine = planned.payload(1, 3)
    assert mine is not None and unpack(mine, SHAPE, None).counts(2).tolist() == [18, 6]
    planned.after_average(3, {}, {0: result})
    assert planned.seconds == {"generate": 1.0}
