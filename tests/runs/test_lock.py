"""Whether a run is being run, seen from outside."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.errors import RunError
from regl_app.runs.lock import is_running, running

HOLD = """
import sys, time
from pathlib import Path
from regl_app.runs.lock import running
with running(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_held_until_its_orderly_end(tmp_path: Path) -> None:
    assert is_running(tmp_path) is None
    with running(tmp_path):
        assert is_running(tmp_path) is True
    assert is_running(tmp_path) is None and list(tmp_path.iterdir()) == []


def test_a_killed_process_has_left_no_end_and_another_may_go_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert is_running(tmp_path) is True
        process.kill()
    assert is_running(tmp_path) is False
    with running(tmp_path):
        assert is_running(tmp_path) is True


def test_a_run_is_not_run_twice_at_a_time(tmp_path: Path) -> None:
    started = time.monotonic()
    refused = pytest.raises(RunError, match=r"is being run already \(.* process \d")
    with running(tmp_path), refused, running(tmp_path):
        raise AssertionError("two hold it")
    assert time.monotonic() - started < 10
    assert is_running(tmp_path) is None


def test_who_waited_for_an_orderly_end_holds_the_file_that_others_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(running(tmp_path))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        first.close()

    monkeypatch.setattr("regl_app.runs.lock.time.sleep", wait)
    with second:
        second.enter_context(running(tmp_path))
        assert waits
        assert is_running(tmp_path) is True
        with pytest.raises(RunError, match="is being run already"), running(tmp_path):
            raise AssertionError("two hold it")
    assert list(tmp_path.iterdir()) == []


def test_who_looks_while_a_run_ends_does_not_take_it_for_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = ExitStack()
    holder.enter_context(running(tmp_path))
    locked = fcntl.flock

    def late(handle: Any, how: int) -> None:
        holder.close()
        locked(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert is_running(tmp_path) is None


def test_who_only_looks_keeps_nobody_from_running(tmp_path: Path) -> None:
    (tmp_path / ".running").write_text("elsewhere process 1\n")
    with (tmp_path / ".running").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.2, looking.close).start()
        with running(tmp_path):
            assert is_running(tmp_path) is True


def test_what_another_machine_holds_is_unknown_here(tmp_path: Path) -> None:
    (tmp_path / ".running").write_text("no-such-host process 1\n")
    assert is_running(tmp_path) is None
