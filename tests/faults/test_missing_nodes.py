"""Nodes that vanish amid a run: it waits, says for what, and gives up in the configured time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.errors import RunError
from regl_app.flower.engines.in_process import InProcessGrid
from regl_app.runs.folder import RunFolder

Federate = Callable[..., RunFolder]
AtMoment = Callable[[int, str, Callable[[], None]], None]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return how many nodes are connected, under 'nodes'; to be changed."""
    state = {"nodes": 99}
    every = InProcessGrid.get_node_ids
    monkeypatch.setattr(
        InProcessGrid, "get_node_ids", lambda grid: list(every(grid))[: state["nodes"]]
    )
    return state


def test_nodes_that_vanish_before_the_evaluation_end_the_run_in_time(
    federate: Federate, at_moment: AtMoment, connected: dict[str, int]
) -> None:
    at_moment(2, "train", lambda: connected.update(nodes=0))
    why = r"0 nodes connected within server\.timeout=15 s"
    with pytest.raises(RunError, match=why):
        federate({"server.min-nodes": 2, "server.timeout": 15.0})


def test_regl_run_exits_with_1_and_the_reason(
    settings: dict[str, Any], connected: dict[str, int]
) -> None:
    from typer.testing import CliRunner

    from regl_app.cli import app

    keys = {**settings, "server.min-nodes": 3, "server.timeout": 1.0}
    texts = [f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in keys.items()]
    connected["nodes"] = 2
    done = CliRunner().invoke(app, ["run", "--engine", "in-process", "-n", "3", *texts])
    assert done.exit_code == 1
    assert "2 nodes connected within server.timeout=1 s" in " ".join(done.output.split())


def test_regl_run_resume_takes_everything_from_the_folder(
    settings: dict[str, Any], federate: Federate, at_moment: AtMoment, connected: dict[str, int]
) -> None:
    from typer.testing import CliRunner

    from regl_app.cli import app

    at_moment(1, "evaluate", lambda: connected.update(nodes=1))
    with pytest.raises(RunError):
        federate({"server.min-nodes": 2, "server.timeout": 1.0})
    (path,) = Path(settings["out-dir"]).iterdir()
    connected["nodes"] = 99

    def regl(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["run", "--engine", "in-process", *arguments])

    wrong = regl("--resume", str(path), "-n", "5")
    assert wrong.exit_code == 2
    assert "--clients must be 2, as in the run to be resumed, got 5" in " ".join(
        wrong.output.split()
    )
    other = regl("--resume", str(path), "seed=4")
    assert other.exit_code == 2
    assert "seed=4 (was 0)" in " ".join(other.output.split())
    done = regl("--resume", str(path))
    assert done.exit_code == 0, done.output
    assert [r.round for r in RunFolder.open(path).read_history()] == [0, 1, 2, 3]
