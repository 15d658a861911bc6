"""Making an app bundle the working directory of Flower's simulation, before Ray starts."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from regl_app.core.start_dir import START_DIR

# Every client's lines are shown, GPUs stay visible to clients that reserve none, and no history of
# tasks is kept, which nobody reads: it grew by 3 kB per message, up to 100,000 of them.
RAY_SETTINGS = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_events_report_interval_ms": "0",
}


_lock = threading.Lock()


def enter_bundle(root: Path) -> None:
    """Make the bundle at ``root`` the working directory of a Flower simulation process.

    The directory left is kept in the environment, which Ray and its workers inherit. Any other
    process (deployment, in-process engine, tests) is left as it is. ServerApp and ClientApp are
    imported by two threads: the second call does nothing.
    """
    if "flwr-simulation" not in Path(sys.argv[0]).name:
        return
    with _lock:
        if START_DIR not in os.environ:
            os.environ[START_DIR] = str(Path.cwd())
        for key, value in RAY_SETTINGS.items():
            os.environ.setdefault(key, value)
        os.chdir(root)
