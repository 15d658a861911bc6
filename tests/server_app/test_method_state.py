"""What a method keeps at the server survives, as long as its clients remember their part of it."""

from __future__ import annotations

import pytest
import torch
from flwr.serverapp.strategy import FedAvg

from regl_app.config import RunConfig
from regl_app.flower.messages.handshake import Handshake
from regl_app.learning.methods import make_method
from regl_app.rounds.sites.site import Site
from server_app.checkpoint_state import ServerMemory
from server_app.supplement_strategy import SupplementStrategy

ZERO = {"w": torch.zeros(2)}
KEPT = {"w": torch.tensor([1.0, -2.0])}


def strategy(code: str) -> SupplementStrategy:
    config = RunConfig.from_flat({"method": "scaffold"})
    return SupplementStrategy(
        FedAvg(),
        config,
        template=ZERO,
        num_classes=2,
        handshake=Handshake(code, "config"),
        partitions={},
        num_partitions=2,
        site=Site(),
        method=make_method(config),
        method_template=ZERO,
    )


@pytest.mark.parametrize(("code", "after"), [("same", KEPT), ("other", ZERO)])
def test_resumed_by_other_code_both_sides_forget(
    code: str, after: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    resumed = strategy(code)
    resumed.restore(ServerMemory("run", "same", method=KEPT).to_tensors())
    state = ServerMemory.from_tensors(resumed.memory()).method
    assert torch.equal(state["w"], after["w"])
    assert ("clients forget what they kept" in caplog.text) == (code == "other")
