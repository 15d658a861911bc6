"""Where relative paths of a run point to, whatever Flower makes the working directory.

In a Flower simulation the app runs from an unpacked bundle, and Ray workers put their working
directory ahead of that bundle on ``sys.path``: started next to another app they would import that
app's ``client_app``. So both apps' packages call :func:`enter_bundle` when they are imported,
which happens before Ray starts; the directory left behind is what relative paths refer to.
"""

from __future__ import annotations

import os
from pathlib import Path

from regl_app.config.choices import SOURCES
from regl_app.config.run_config import BUNDLED, RunConfig
from regl_app.config.supplement_sections import AS_NAMED, prompts_are_inside
from regl_app.core.types import Scalar

START_DIR = "REGL_START_DIR"


def start_dir() -> Path:
    """Return the directory that a run's relative paths refer to.

    That is where ``regl run`` was called; for a plain ``flwr run`` it is where the SuperLink
    that executes the run was started, since Flower tells an app nothing else.
    """
    return Path(os.environ.get(START_DIR) or Path.cwd())


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return ``config`` with its local paths absolute; 'bundled' and hub ids stay as they are."""
    base = start_dir()
    changes: dict[str, Scalar] = {"out-dir": str(_absolute(base, config.out_dir))}
    if config.resume:
        changes["resume"] = str(_absolute(base, config.resume))
    if config.cache_dir:
        changes["cache-dir"] = str(_absolute(base, config.cache_dir))
    # A hub id looks like a relative path: it is one only if it exists.
    remote = SOURCES[config.data.source].remote
    if config.data.path and (not remote or _exists(base, config.data.path)):
        changes["data.path"] = str(_absolute(base, config.data.path))
    if config.generator.path != BUNDLED and _exists(base, config.generator.path):
        changes["generator.path"] = str(_absolute(base, config.generator.path))
    prompts = config.generator.prompts
    if prompts not in ("", AS_NAMED) and not prompts_are_inside(prompts):
        changes["generator.prompts"] = str(_absolute(base, prompts))
    if config.partition.file:
        changes["partition.file"] = str(_absolute(base, config.partition.file))
    return config.updated(changes)


def cache_dir(config: RunConfig) -> Path:
    """Return the folder of adapters and images that runs share: ``cache-dir`` or the user's."""
    if config.cache_dir:
        return _absolute(start_dir(), config.cache_dir)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "regl"


def _absolute(base: Path, path: str) -> Path:
    return base / Path(path).expanduser()


def _exists(base: Path, path: str) -> bool:
    return _absolute(base, path).exists()
