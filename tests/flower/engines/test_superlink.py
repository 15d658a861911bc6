"""A SuperLink of one's own is alive while all of it is, and goes whatever ends its run."""

from __future__ import annotations

import os
import signal
import threading
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


def test_a_superexec_that_runs_by_another_name_is_no_failure(home: Path, programs: Path) -> None:
    (programs / "flower-superexec").write_text("#!/bin/sh\nexec sleep 300\n")
    with SuperLink(home) as superlink:
        assert superlink.is_running()


def test_ctrl_c_again_does_not_cut_the_end_short(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    times = [threading.Timer(seconds, press) for seconds in (0.3, 0.8, 1.3)]
    try:
        with pytest.raises(KeyboardInterrupt), SuperLink(home):
            for timer in times:
                timer.start()
            raise KeyboardInterrupt
        assert not carrying("FLWR_HOME", str(home))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for timer in times:
            timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err.count("closing") == 1


def test_ctrl_c_while_a_run_that_completed_is_closed_is_heard_afterwards(home: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt), SuperLink(home):
            timer.start()
        assert not carrying("FLWR_HOME", str(home))
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
