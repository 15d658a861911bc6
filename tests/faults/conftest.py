"""Small federations in this process, with something that happens at a given moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.serverapp import Grid

from regl_app.config import RunConfig
from regl_app.flower.engines.in_process import run_in_process
from regl_app.flower.messages.content import OURS
from regl_app.runs.folder import RunFolder
from server_app.exchange import exchange

Settings = dict[str, str | int | float | bool]

SMALL: Settings = {
    "method": "fedavg",
    "rounds": 3,
    "train.steps": 2,
    "train.batch-size": 8,
    "model.width": 4,
    "data.max-train": 120,
    "data.max-test": 60,
    "data.image-size": 16,
    "partition.beta": 1.0,
    "tensorboard": False,
    "report": False,
    "generator.steps": 2,
    "lora.steps": 2,
    "lora.batch-size": 4,
    "lora.rank": 2,
    "pool.per-class": 6,
    "dpo.steps": 2,
    "supplement.cap": 4,
    "supplement.ratio": 0.1,
    "probe.per-class": 2,
}


@pytest.fixture
def settings(tmp_path: Path, second_pipeline: Path) -> Settings:
    """Return the keys of a run of three rounds that takes seconds, below this test's folder."""
    return {
        **SMALL,
        "generator.path": str(second_pipeline),
        "out-dir": str(tmp_path / "runs"),
        "cache-dir": str(tmp_path / "cache"),
    }


@pytest.fixture
def federate(settings: Settings) -> Callable[..., RunFolder]:
    """Return what runs two clients with changed keys, and returns the run's folder."""

    def run(changes: Settings | None = None, clients: int = 2) -> RunFolder:
        config = RunConfig.from_flat({**settings, **(changes or {})})
        return RunFolder.open(run_in_process(config, clients=clients, workers=1))

    return run


@pytest.fixture
def at_moment(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str, Callable[[], None]], None]:
    """Return what does something right before a round's phase: (round, phase, what)."""

    def set_action(number: int, phase: str, action: Callable[[], None]) -> None:
        def acting(grid: Grid, requests: Iterable[Message], timeout: float) -> list[Message]:
            requests = list(requests)
            ours = requests[0].content.config_records[OURS]
            if (ours["round"], requests[0].metadata.message_type) == (number, phase):
                action()
            return exchange(grid, requests, timeout)

        monkeypatch.setattr("server_app.round_loop.exchange", acting)

    return set_action
