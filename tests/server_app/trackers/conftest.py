"""A run that is told to a tracker round by round, without a federation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    GlobalMetrics,
    Personalized,
    PhaseSeconds,
    RoundRecord,
)
from server_app.trackers.tracker import TrackedRun

NAMES = ["a cat", "犬/いぬ"]
UNTRAINED = RoundRecord(round=0, metrics=GlobalMetrics(accuracy=0.1, macro_f1=0.1))
TRAINED = RoundRecord(
    round=1,
    metrics=GlobalMetrics(
        accuracy=0.5,
        macro_f1=0.25,
        loss=1.5,
        per_class=[0.75, None],
        precision=[0.5, None],
        f1=[0.6, None],
        confusion=[[3, 1], [0, 0]],
    ),
    personalized=Personalized(mean=0.5, per_client={1: 0.5}),
    discrepancy=[[0.5, -1.0], None],
    synthetic_counts=[[0, 3], [2, 2]],
    seconds=PhaseSeconds(clients={"train": [1.0, None]}, server={"aggregate": 0.5}, wall=2.0),
)
LAST = TRAINED.model_copy(update={"round": 2})

RunMaker = Callable[..., TrackedRun]


@pytest.fixture
def tracked(tmp_path: Path) -> RunMaker:
    """Return the maker of a run; called again, it is the same run, resumed in ``first_round``."""

    def make(first_round: int = 0, **keys: Scalar) -> TrackedRun:
        config = RunConfig.from_flat({"method": "fedavg", "name": "one"} | keys)
        facts = FederationFacts(class_names=NAMES, num_clients=2)
        if first_round:
            return TrackedRun(RunFolder.open(tmp_path / "one"), config, facts, first_round)
        folder = RunFolder.create(config, tmp_path)
        folder.write_facts(facts)
        return TrackedRun(folder, config, facts)

    return make
