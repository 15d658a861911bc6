"""Ending a tree of processes ends all of it, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from regl_app.core import processes
from regl_app.core.processes import carrying, descendants, end_processes, wait_until_gone

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

# A child, and a grandchild in a session of its own that ignores a polite request.
_TREE = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
time.sleep(60)
"""


def test_a_whole_tree_is_found_and_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", _TREE]) as root:
        bystander = subprocess.Popen(["sleep", "60"])
        deadline = time.monotonic() + 20
        while not (found := descendants(root.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found) == 1
        time.sleep(0.5)  # until it ignores the request
        root.kill()
        root.wait()
        end_processes(found, grace=0.5)
        assert wait_until_gone(found, 1.0)
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()


def test_what_has_lost_its_parent_is_found_by_its_environment() -> None:
    mark = uuid.uuid4().hex
    with subprocess.Popen([sys.executable, "-c", _TREE], env={**os.environ, "OWN": mark}) as root:
        deadline = time.monotonic() + 20
        while not descendants(root.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        root.kill()
    assert not descendants(root.pid)
    found = carrying("OWN", mark)
    assert len(found) == 1 and not carrying("OWN", mark[:-1])
    end_processes(found, grace=0.1)
    assert wait_until_gone(found, 5.0) and not carrying("OWN", mark)


@pytest.mark.parametrize("options", [[], ["-s"], ["-X", "utf8"]])
def test_a_program_is_known_behind_its_interpreter_s_options(
    options: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "some-program"
    program.write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n", encoding="utf-8")
    command = [sys.executable, *options, str(program), "--of", "other-program"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        running = {process.pid: processes.started_at(process.pid) or ""}
        assert processes.of_program("some-program", running) == running
        assert processes.of_program("other-program", running) == {}
        process.kill()


def test_an_id_given_to_another_process_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        end_processes({process.pid: "another start time"}, grace=0.1)
        assert process.poll() is None
        process.kill()
