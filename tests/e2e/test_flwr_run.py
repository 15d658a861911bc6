"""Through the real ``flwr run``: outputs, truthful ends, repeatability, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.flower.engines.flower_run import run_flower
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder

# A run takes half a minute on two free cores, many on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).resolve().parents[2]
Small = Callable[..., RunConfig]
MEASURED = {"round", "metrics", "personalized", "discrepancy", "quotas", "synthetic_counts"}


def _history(folder: Path) -> list[dict[str, object]]:
    return [record.model_dump(include=MEASURED) for record in RunFolder.open(folder).read_history()]


def test_the_default_method_repeats_itself_on_both_engines(elsewhere: Path, small: Small) -> None:
    lines: list[str] = []
    config = small(**{"cache-dir": "cache-flwr", "name": "flwr"})
    folder = run_flower(config, clients=5, on_line=lines.append)
    # A relative out-dir is relative to where the run was started.
    assert folder == elsewhere / "runs" / "flwr"
    run = RunFolder.open(folder)
    assert run.report.is_file()
    assert run.load_model()
    assert len(list(run.samples.glob("client-*.npz"))) == 5
    assert any(line.startswith("client 4: ") and "adapter 2 steps" in line for line in lines)
    # A worker loads one generator for all its clients.
    loads = [line for line in lines if "generator loaded" in line]
    processes = {line.rsplit(" ", 1)[1] for line in loads}
    assert 1 <= len(loads) == len(processes) <= (os.cpu_count() or 1)
    assert any(line.startswith("round 2/2: global accuracy") for line in lines)
    assert not any(record.failures for record in run.read_history())

    config = small(**{"cache-dir": "cache-in-process", "name": "in-process"})
    assert _history(run_in_process(config, clients=5)) == _history(folder)


def test_a_run_that_learned_nothing_fails(elsewhere: Path, small: Small) -> None:
    config = small(method="fedavg", **{"server.min-nodes": 3, "server.timeout": 2.0})
    with pytest.raises(RunError, match=r"the run ended as finished:failed: .*server\.min-nodes=3"):
        run_flower(config, clients=2, on_line=lambda _: None)
    result = RunFolder.open(next((elsewhere / "runs").iterdir())).read_result()
    assert result is not None
    assert result.status == "failed"


_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
from regl_app.config import RunConfig
from regl_app.flower.engines.flower_run import run_flower
config = RunConfig.from_flat({"method": "fedavg", "rounds": 500, "out-dir": sys.argv[1]})
run_flower(config, clients=2)
"""


# While clients train, and while Ray is still coming up.
@pytest.mark.parametrize(
    ("how", "moment"),
    [(signal.SIGINT, "fedavg: 2 clients"), (signal.SIGTERM, "run folder: ")],
    ids=["training", "starting"],
)
def test_interrupting_stops_the_run_and_everything_under_it(
    elsewhere: Path, how: signal.Signals, moment: str
) -> None:
    said = elsewhere / "said.txt"  # a pipe that nobody reads would be another fault
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(elsewhere / "runs")],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
    while not any(line.startswith(moment) for line in said.read_text().splitlines()):
        assert process.poll() is None, said.read_text()
        time.sleep(0.05)
    process.send_signal(how)
    assert process.wait(timeout=300) != 0
    result = RunFolder.open(next((elsewhere / "runs").iterdir())).read_result()
    assert result is not None and result.status == "stopped"
    # The fixture checks that no process is left.


@pytest.mark.parametrize("victim", ["regl run", "flower-superexec"])
def test_a_run_of_which_a_part_is_killed_ends_with_everything_under_it(
    victim: str, elsewhere: Path, started: Callable[[], dict[int, str]]
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, str(elsewhere / "runs")],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("fedavg: 2 clients"):
                break
        if victim == "regl run":
            process.kill()
        else:
            (pid,) = (pid for pid, command in started().items() if f"/{victim} " in command)
            os.kill(pid, signal.SIGKILL)
        told = process.communicate(timeout=300)[1]
        assert process.returncode != 0
        assert victim == "regl run" or "flower-superexec, which starts" in told
        deadline = time.monotonic() + 120
        while (left := list(Path(scratch).glob("regl-*"))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left


_BOUND = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from regl_app.config import RunConfig
from regl_app.flower.engines.flower_run import run_flower
keys = {"method": "fedavg", "rounds": 1, "train.steps": 2, "data.max-train": 100, "report": False}
run_flower(RunConfig.from_flat({**keys, "name": sys.argv[1]}), clients=2)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such bounds on this system")
def test_two_runs_on_one_processor_have_a_ray_each_and_do_not_fight(
    elsewhere: Path, started: Callable[[], dict[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a cluster that neither is to join
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runs = []
    for name in ("a", "b"):
        with Path(f"{name}.txt").open("w") as errors:  # of any length: nobody reads it meanwhile
            runs.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOUND, name],
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
            )
    seen: dict[str, str] = {}
    while any(run.poll() is None for run in runs):
        for command in started().values():
            if "/raylet " in command and "--session_dir=" in command:
                session = command.partition("--session_dir=")[2].split()[0]
                seen[session] = command.partition("--static_resource_list=")[2].split()[0]
        time.sleep(0.2)
    for run, name in zip(runs, ("a", "b"), strict=True):
        assert run.returncode == 0, Path(f"{name}.txt").read_text()
    assert len(seen) == 2
    assert all(",CPU,1," in resources for resources in seen.values())  # whatever the machine has
    assert not any(Path(session).exists() for session in seen)  # nothing is left of them
    first, second = (_history(elsewhere / "runs" / name) for name in ("a", "b"))
    assert first == second
