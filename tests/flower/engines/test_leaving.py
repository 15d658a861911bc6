"""Ctrl-C amid an in-process run says what it waits for, and a second one leaves.

So does the first one where the run has failed and only its clients are waited for, with the reason.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from regl_app.core.app_root import APP_ROOT

_RUN = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
from flwr.app import ConfigRecord, RecordDict
from flwr.clientapp import ClientApp
from regl_app.core.log import setup_logging
from regl_app.flower.engines import engine, in_process
app, begun = ClientApp(), threading.Event()
@app.query()
def query(message, context):
    begun.set()
    time.sleep(float(sys.argv[1]))
def run(config, **_):
    grid = in_process.InProcessGrid(app, 3, {}, workers=1)
    content = RecordDict({"c": ConfigRecord({"n": 1})})
    try:
        ids = grid.push_messages([grid.create_message(content, "query", n, "") for n in
                                  grid.get_node_ids()])
        begun.wait()
        print("at work", flush=True)  # who has pushed all, and not while a thread is started
        while not list(grid.pull_messages(ids)):
            time.sleep(0.1)
    finally:
        grid.close()
in_process.run_in_process = run
engine.places_in_process = lambda *_: 1
setup_logging()
from flwr.supercore.task_identity import TaskIdentity
TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1
engine.make_engine(engine.EngineName.IN_PROCESS)(None, 1)
"""


_FAILED = _RUN.replace(
    """        while not list(grid.pull_messages(ids)):
            time.sleep(0.1)
""",
    """        from regl_app.core.errors import RunError
        raise RunError("too few replies")
""",
)

_LOADING = """
import signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from flwr.clientapp import ClientApp
from regl_app.core.log import setup_logging
from regl_app.flower.engines.in_process import InProcessGrid
setup_logging()
def load():
    print("loading", flush=True)
    time.sleep(3.0)
InProcessGrid(ClientApp(), 3, {}, workers=3, prepare=load)
"""

# The others wake only after Ctrl-C: a barrier that is aborted meanwhile is broken for them.
_LATE = """
import threading, time
class Late(threading.Barrier):
    def wait(self, timeout=None):
        place = super().wait(timeout)
        if place:
            time.sleep(1.5)
            if self.broken:
                raise threading.BrokenBarrierError
        return place
threading.Barrier = Late
"""


def _started(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(APP_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_ctrl_c_after_a_failure_leaves_with_its_reason() -> None:
    assert _FAILED != _RUN
    with _started(_FAILED, "60") as run:
        assert run.stdout is not None
        try:
            told = [run.stdout.readline(), run.stdout.readline()]
            assert any("1 client at work (Ctrl-C leaves at once)" in line for line in told), told
            run.send_signal(signal.SIGINT)
            assert run.wait(30.0) == 128 + signal.SIGINT
            assert "Error: too few replies" in run.stdout.read()
        finally:
            run.kill()


@pytest.mark.parametrize("before", ["", _LATE], ids=["all-awake", "others-late"])
def test_ctrl_c_while_generators_load_begins_no_other_one(before: str) -> None:
    with _started(before + _LOADING) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == "loading\n"
            run.send_signal(signal.SIGINT)
            assert run.wait(30.0) != 0
            rest = run.stdout.read()
            assert "loading\n" not in rest.splitlines(keepends=True)
            assert "at loading (Ctrl-C again leaves at once)" in rest
        finally:
            run.kill()


@pytest.mark.parametrize(("presses", "work"), [(1, 4), (2, 60)])
def test_ctrl_c_says_what_it_waits_for_and_a_second_one_leaves(presses: int, work: int) -> None:
    with _started(_RUN, str(work)) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == "at work\n"
            begun = time.monotonic()
            run.send_signal(signal.SIGINT)
            told = run.stdout.readline()
            assert "waiting for 1 client" in told and "Ctrl-C again" in told
            if presses == 2:
                run.send_signal(signal.SIGINT)
            assert run.wait(30.0) != 0
            assert time.monotonic() - begun < 20.0
            assert "at work" not in run.stdout.read()  # no other client has begun
        finally:
            run.kill()
