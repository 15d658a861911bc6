"""A run whose process is killed leaves neither its SuperLink nor its temporary files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regl_app.core.app_root import APP_ROOT
from regl_app.core.processes import carrying, end_processes

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

_RUN = """
import sys, time
from pathlib import Path
from regl_app.config import RunConfig
from regl_app.flower.engines import flower_run, superlink
superlink.find_program = lambda name: str(Path(sys.argv[1]) / name)
def run(link, *_):
    print(link.home, flush=True)
    time.sleep(float(sys.argv[3]))
    raise SystemExit
flower_run._run = run
flower_run.run_flower(RunConfig.from_flat({"out-dir": sys.argv[2]}), clients=2)
"""


def _ends(home: Path, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not home.parent.exists() and not carrying("FLWR_HOME", str(home)):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("killed", [True, False])
def test_nothing_outlives_a_run_that_is_killed_or_ends(
    killed: bool, tmp_path: Path, programs: Path
) -> None:
    mark = tmp_path.name
    with subprocess.Popen(
        [sys.executable, "-P", "-c", _RUN, programs, tmp_path / "out", "60" if killed else "0"],
        env={**os.environ, "PYTHONPATH": str(APP_ROOT), "REGL_TEST_CARE": mark},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        home = Path(run.stdout.readline().strip())
        try:
            assert home.name == "home"
            if killed:
                assert len(carrying("FLWR_HOME", str(home))) == 2
                run.send_signal(signal.SIGKILL)
            run.wait(60)
            assert _ends(home)
            deadline = time.monotonic() + 30.0
            while carrying("REGL_TEST_CARE", mark) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not carrying("REGL_TEST_CARE", mark)  # nor does who looked after it
        finally:
            end_processes(carrying("REGL_TEST_CARE", mark), grace=0.1)
