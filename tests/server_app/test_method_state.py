"""What a method keeps at the server survives, as long as its clients remember their part of it."""

from __future__ import annotations

import pytest
import torch
from flwr.serverapp.strategy import FedAvg

from regl_app.config import RunConfig
from regl_app.flower.messages.handshake import Handshake
from regl_app.learning.methods import make_method
from regl_app.learning.models.build import build_model
from regl_app.rounds.sites.site import Site
from server_app.checkpoint_state import ServerMemory
from server_app.main import _warn_of_own_parts
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


@pytest.mark.parametrize(("objective", "told"), [("fedrep", True), ("fedavg", False)])
def test_weights_that_never_reach_what_clients_keep_are_told(
    objective: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = RunConfig.from_flat(
        {"method": "fedavg", "objective": objective, "model.weights": "a.safetensors"}
    )
    _warn_of_own_parts(config, build_model(config.model, 3, 1, 16, 0))
    assert ("begins untrained there" in caplog.text) is told
    assert ("2 tensors, such as head.bias" in caplog.text) is told
