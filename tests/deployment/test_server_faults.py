"""The ServerApp's process, then the SuperLink, killed by pid amid a run that then goes on.

The SuperLink is gone for longer than a minute, until its nodes count as away.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.core.processes import descendants
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder
from regl_app.runs.lock import running

Deploy = Callable[..., Any]  # the fixture's Deployment
KEPT = ("metrics", "personalized", "discrepancy", "quotas", "real_counts", "synthetic_counts")
ROUNDS = 2
GONE = 65.0  # seconds; after 60 without a heartbeat a node counts as away
RECEIVED = re.compile(
    r"\[RUN (\d+)[^]]*\]\n.*Receiving: train message.*\n(?:.*\n){0,2}?.*Received successfully"
)

pytestmark = pytest.mark.timeout(1800)


def server_process(deployment: Any) -> int | None:
    """Return the pid of the process that runs the ServerApp."""
    for pid in descendants(deployment.processes["superlink"].pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except FileNotFoundError:
            continue
        if "flwr-serverapp" in command:
            return pid
    return None


def wait_until(deployment: Any, seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 400
    while not seen():
        assert time.monotonic() < deadline, deployment.log("run")
        time.sleep(0.05)


def not_run(run: RunFolder) -> bool:
    """Return whether no ServerApp has the run in its hands any more."""
    try:
        with running(run.path):
            return True
    except RunError:
        return False


def given_training(deployment: Any) -> set[str]:
    """Return Flower's ids of the runs of which a client has a round's training to do, or had."""
    logs = [deployment.log(name) for name in ("a", "b")]
    return {run for log in logs for run in RECEIVED.findall(log)}


def the_run(deployment: Any) -> RunFolder:
    configs = lambda: list(deployment.folder.glob("runs/*/config.json"))  # noqa: E731
    wait_until(deployment, lambda: bool(configs()))
    return RunFolder.open(configs()[0].parent)


def test_a_run_whose_server_was_killed_twice_ends_like_one_that_was_not(
    deploy: Deploy,
    site_settings: dict[str, Scalar],
    site_folders: list[Path],
    tmp_path: Path,
) -> None:
    settings = site_settings | {
        "rounds": ROUNDS,
        # What clients and server keep between rounds matters.
        "method": "scaffold",
        "server.min-nodes": 2,
        "server.timeout": 200.0,
    }
    sites = site_folders[:2]
    calm = RunConfig.from_flat(
        settings | {"out-dir": str(tmp_path / "calm"), "cache-dir": str(tmp_path / "calm-cache")}
    )
    deployment = deploy("a", "b")
    deployment.register("a", "b")
    for index, name in enumerate(("a", "b")):
        deployment.start_site(index, sites, name)
    out = str(deployment.folder / "runs")

    # Between rounds: the ServerApp's process, as soon as the first round is written down.
    follower = deployment.submit(**settings, **{"out-dir": out})
    run = the_run(deployment)
    wait_until(deployment, lambda: len(run.read_history()) == 1)
    pid = server_process(deployment)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    follower.wait(timeout=600)

    # Within a round: the SuperLink, while clients are at work on the second one.
    again = {"out-dir": out, "resume": str(run.path)}
    before = given_training(deployment)  # what the killed one has sent may be received later
    follower = deployment.submit(**settings, **again)
    wait_until(deployment, lambda: given_training(deployment) > before)
    superlink = deployment.processes.pop("superlink")
    left = descendants(superlink.pid)
    superlink.kill()
    superlink.wait()
    deployment.orphans |= left
    follower.wait(timeout=600)
    assert len(run.read_history()) < ROUNDS

    # It comes up again on its database, the nodes by themselves: the gate told them "later".
    back = time.monotonic() + GONE
    whole = RunFolder.open(run_in_process(calm, sites=sites, workers=1))
    time.sleep(max(0.0, back - time.monotonic()))
    wait_until(deployment, lambda: not_run(run))  # a busy machine's ServerApp is slow to see it
    assert all(deployment.processes[name].poll() is None for name in ("a", "b"))
    deployment.start_superlink()
    log = deployment.run(**settings, **again)
    result, history = run.read_result(), run.read_history()
    assert result is not None and result.status == "finished", log
    assert [path.name for path in Path(out).iterdir()] == [run.name]
    for mine, theirs in zip(history, whole.read_history(), strict=True):
        for name in KEPT:
            assert getattr(mine, name) == getattr(theirs, name), (mine.round, name)
    expected = whole.load_model()
    assert all(torch.equal(value, expected[name]) for name, value in run.load_model().items())
