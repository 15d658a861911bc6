"""Whether somebody runs a run folder just now, known also of a process that was killed.

The ServerApp holds a lock on ``<run>/.running`` for as long as it lives; the operating system lets
go of it whatever ends the process. An orderly end removes the file.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from regl_app.core.errors import RunError

_NAME = ".running"
_PATIENCE = 1.0


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Hold the run folder until the block ends.

    Raises:
        RunError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not POSIX: nobody can tell
        yield
        return
    path = folder / _NAME
    deadline = time.monotonic() + _PATIENCE
    while True:
        with path.open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() < deadline:  # somebody may only be looking
                    time.sleep(0.05)
                    continue
                handle.seek(0)
                holder = handle.read().strip()
                raise RunError(f"{folder}: is being run already ({holder})") from error
            except OSError:  # a file system without locks
                path.unlink(missing_ok=True)
                yield
                return
            if not _is_at(path, handle):  # whoever held it has ended: others would not find this
                continue
            handle.truncate(0)
            handle.write(f"{socket.gethostname()} process {os.getpid()}\n")
            handle.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def is_running(folder: Path) -> bool | None:
    """Return whether a process holds the folder; None if that cannot be known from here.

    False means that one held it and is gone without an end. Unknown is an orderly end, a run on
    another machine (or in another container), a file system without locks.
    """
    try:
        import fcntl

        with (folder / _NAME).open() as handle:
            if not handle.read().startswith(f"{socket.gethostname()} "):
                return None
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False if _is_at(folder / _NAME, handle) else None
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return None


def _is_at(path: Path, handle: TextIO) -> bool:
    """Return whether the open file is what ``path`` leads to, not one that was removed."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False
