"""An app's process whose main thread waits for another thread when Flower's process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regl_app.core.processes import descendants, wait_until_gone
from regl_app.flower.deployment import orphans

# What Flower's own programs do, up to messages that are pushed to a SuperLink that is gone.
CHILD = """
import sys, time
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.exit import register_signal_handlers
from flwr.supercore.inflatable.inflatable_utils import push_object_contents_from_iterable
from flwr.supercore.telemetry import EventType
from regl_app.flower.deployment import orphans

start_parent_process_monitor(int(sys.argv[sys.argv.index("--parent-pid") + 1]))
if "graceful" in sys.argv:
    register_signal_handlers(event_type=EventType.FLWR_SERVERAPP_RUN_LEAVE)
orphans._GRACE = 1.0
orphans.end_with_parent()

def for_ever(*_):
    print("waits", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

if "deaf" in sys.argv:
    for_ever()
push_object_contents_from_iterable(iter([("an object", b"its content")]), for_ever)
"""
PARENT = """
import os, subprocess, sys
arguments = ["--parent-pid", str(os.getpid()), *sys.argv[2:]]
subprocess.run([sys.executable, "-c", sys.argv[1], *arguments])
"""


@pytest.mark.parametrize("kind", ["graceful", "plain", "deaf"])
def test_it_ends_soon_after(kind: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, kind],
        stdout=subprocess.PIPE,
        env=os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(tmp_path)},
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "waits\n"
    children = descendants(parent.pid)
    assert len(children) == 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone = wait_until_gone(children, 30)
    for pid in () if gone else children:
        os.kill(pid, signal.SIGKILL)
    assert gone
    parent.stdout.close()


@pytest.mark.parametrize(
    "arguments", [["regl", "run"], ["app", "--parent-pid"], ["app", "--parent-pid", "-1"]]
)
def test_without_a_named_parent_nothing_is_watched(arguments: list[str]) -> None:
    assert orphans._named(arguments) is None
    assert orphans._named([*arguments, "--parent-pid", "12"]) == 12
