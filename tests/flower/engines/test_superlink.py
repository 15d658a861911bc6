"""A SuperLink of one's own is alive while all of it is, and goes whatever ends its run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regl_app.core.errors import RunError
from regl_app.core.processes import carrying, end_processes
from regl_app.flower.engines.superlink import SuperLink

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture
def home(tmp_path: Path, programs: Path) -> Iterator[Path]:
    """Return a home for a SuperLink that is played; end what is left of it."""
    assert programs.is_dir()
    home = tmp_path / "scratch" / "home"
    home.mkdir(parents=True)
    yield home
    end_processes(carrying("FLWR_HOME", str(home)), grace=0.1)


def playing(home: Path, program: str) -> list[int]:
    """Return the ids of the processes of ``program`` that belong to ``home``."""
    found = []
    for pid in carrying("FLWR_HOME", str(home)):
        if program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(pid)
    return found


def soon(fact: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Return whether ``fact`` becomes true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.05)
    return fact()


def test_a_superlink_whose_superexec_was_killed_does_not_run(home: Path) -> None:
    with SuperLink(home) as superlink:
        assert superlink.is_running()
        (superexec,) = playing(home, "flower-superexec")
        os.kill(superexec, signal.SIGKILL)
        assert soon(lambda: not superlink.is_running(), 5.0)


def test_a_superexec_that_does_not_start_is_told_at_once(home: Path, programs: Path) -> None:
    (programs / "flower-superexec").write_text("#!/bin/sh\nexit 1\n")
    link = programs / "flower-superlink"
    link.write_text(link.read_text().replace("class Health", "time.sleep(0.5)\nclass Health"))
    with pytest.raises(RunError, match="flower-superexec ended at once"), SuperLink(home):
        pass
