"""Folders for temporary files, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regl_app.core.errors import StorageError

_REMEDY = "set TMPDIR to a folder of this user with room"


@contextmanager
def scratch_folder(prefix: str, megabytes: int = 0) -> Iterator[Path]:
    """Yield an empty folder in the system's temporary one, and remove it afterwards.

    Args:
        prefix: of its name.
        megabytes: that there must be room for.

    Raises:
        StorageError: there is no such folder to be had, or less room.
    """
    place = Path(_temporary())
    try:
        free = shutil.disk_usage(place).free
        if free < megabytes * 10**6:
            raise StorageError(
                f"{place}: {free / 1e6:.0f} MB are left for temporary files, a run needs "
                f"{megabytes} (free some space there, or {_REMEDY})"
            )
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{place}: no temporary files can be made there ({error}; {_REMEDY})"
        ) from error
    with folder as name:
        yield Path(name)


def private_folder(name: str) -> Path:
    """Return a folder in the temporary one that only this user can enter, made if absent.

    Raises:
        StorageError: it cannot be made, or is not this user's alone.
    """
    folder = Path(_temporary()) / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error}; {_REMEDY})") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StorageError(f"{folder} is not a folder of this user alone (remove it)")
    return folder


def _temporary() -> str:
    wanted = os.environ.get("TMPDIR")
    if wanted and not os.access(wanted, os.W_OK | os.X_OK):
        # Python would take another without a word, and other programs of the run this one.
        raise StorageError(f"TMPDIR={wanted} cannot be written ({_REMEDY})")
    try:
        return wanted or tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StorageError(
            f"no folder for temporary files can be written: {error.strerror} ({_REMEDY})"
        ) from error
