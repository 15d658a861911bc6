"""A client without images never has a control: SCAFFOLD's mean over all clients leaves it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regl_app import RunConfig, federate, run_in_process
from regl_app.core.types import Scalar, Tensors
from regl_app.data.federation import Federation
from regl_app.learning.methods.scaffold import Scaffold
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.without_images import still_without_images, without_images
from server_app.checkpoint_state import ServerMemory

SETTINGS: dict[str, Scalar] = {
    "method": "scaffold",
    "rounds": 2,
    "data.max-train": 120,
    "data.max-test": 40,
    "partition.beta": 0.01,
    "train.steps": 2,
    "model.width": 4,
    "report": False,
    "tensorboard": False,
}
CLIENTS = 8


def result(key: int, examples: int) -> RoundResult:
    return RoundResult(key, 1, examples, examples, 0.0, None)


def test_who_has_none_is_told_by_counts_or_by_an_answer() -> None:
    told = without_images({0: np.array([0, 0]), 1: np.array([0, 3]), 2: None, 3: None})
    assert told == {0}
    answers = {2: result(2, 0), 1: result(1, 3)}
    assert still_without_images(told, answers) == {0, 2}
    assert still_without_images(frozenset({0, 2}), {2: result(2, 5)}) == {0}  # it got some


def test_a_resumed_server_knows_them() -> None:
    memory = ServerMemory("run", empty=frozenset({2, 5})).to_tensors()
    assert ServerMemory.from_tensors(memory).empty == {2, 5}


@pytest.mark.parametrize("shared", [True, False], ids=["told", "private"])
def test_the_mean_is_over_those_who_can_train(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: dict[str, Scalar] = {"cache-dir": str(tmp_path / "c"), "out-dir": str(tmp_path / "r")}
    keys: dict[str, Scalar] = {"share-diagnostics": shared, "server.fraction": 0.5}
    config = RunConfig.from_flat({**SETTINGS, **places, **keys})
    federation = Federation.load(config, CLIENTS)
    empty = {key for key in range(CLIENTS) if len(federation.client(key).train) == 0}
    assert empty
    means: list[int] = []
    states: list[Tensors] = []
    aggregate = Scaffold.aggregate

    def watched(
        self: Scaffold,
        state: Tensors,
        sent: Mapping[int, Tensors],
        weights: Mapping[int, float],
        num_clients: int,
    ) -> Tensors:
        means.append(num_clients)
        states.append(aggregate(self, state, sent, weights, num_clients))
        return states[-1]

    monkeypatch.setattr(Scaffold, "aggregate", watched)
    runs: list[Callable[[], Any]] = [
        lambda: federate(config, CLIENTS),
        lambda: run_in_process(config, clients=CLIENTS, workers=1),
    ]
    for run in runs:
        run()
    assert means[:2] == means[2:]
    if shared:
        assert means[:2] == [CLIENTS - len(empty)] * 2
    else:
        assert CLIENTS > means[0] >= means[1] >= CLIENTS - len(empty)
    for one, other in zip(states[:2], states[2:], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
