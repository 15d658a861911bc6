"""Ray for one run alone: its own cluster, its files below the run's scratch folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from regl_app.core.errors import StorageError
from regl_app.core.log import logger

# Beside the session's name, which has date and process id: '/ray/session_.../sockets/plasma_store'.
_LONGEST = 107 - 72
_SHM, _LEAST_SHM = Path("/dev/shm"), 100 * 10**6


def ray_environment(scratch: Path) -> dict[str, str]:
    """Return what makes the Ray of a simulation this run's alone.

    Without it a cluster that anybody started on the machine (``ray start``) would be joined, and
    each run would leave its session in the temporary folder that all share.

    Args:
        scratch: a folder that is there until the run has ended.

    Raises:
        StorageError: the paths of Ray's sockets would be too long for the system.
    """
    settings = {"RAY_ADDRESS": "local"}
    if "RAY_TMPDIR" not in os.environ:
        settings["RAY_TMPDIR"] = str(_short(scratch))
    return settings


def _short(scratch: Path) -> Path:
    if len(os.fsencode(scratch)) <= _LONGEST:
        return scratch
    common = Path("/tmp")
    if os.access(common, os.W_OK):
        return common
    raise StorageError(
        f"{scratch}: its path is too long for Ray's sockets, and {common} cannot be written (set "
        f"RAY_TMPDIR to a folder of at most {_LONGEST} letters)"
    )


def tell_small_shared_memory() -> None:
    """Warn where Ray would move messages through files, as in a container with Docker's default."""
    if not _SHM.is_dir():
        return
    there = shutil.disk_usage(_SHM)
    if there.free < _LEAST_SHM:
        logger.warning(
            "%s has %.0f MB left: Ray keeps messages in files instead, which is slower (docker run "
            "--shm-size=1g)",
            _SHM,
            there.free / 1e6,
        )
