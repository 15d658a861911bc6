"""Where a run was started: what its relative paths refer to."""

from __future__ import annotations

import os
from pathlib import Path

START_DIR = "REGL_START_DIR"
"""Environment variable with the directory that a simulation's processes have left."""


def start_dir() -> Path:
    """Return the directory that a run's relative paths refer to.

    That is where ``regl run`` was called; for a plain ``flwr run`` it is where the SuperLink
    that executes the run was started, since Flower tells an app nothing else.
    """
    return Path(os.environ.get(START_DIR) or Path.cwd())
