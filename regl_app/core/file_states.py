"""What changes when a file does, known without reading it: its path, size and modification time.

A file that is replaced by another of the same size and time under the same name is not noticed.
That takes somebody who sets times, or an archive that has one time for files of one size, whose
names are then exchanged. Reading it all would take as long as what the caches save.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def file_state(path: Path) -> str:
    """Return what changes when the file at ``path`` does, the same from wherever it is named.

    Raises:
        OSError: it is gone.
    """
    return _told(path, path.stat())


def files_state(paths: Iterable[Path]) -> str:
    """Return what changes when one of the files at ``paths`` does, or when one comes or goes.

    Such as '5000 files, 312034567 bytes, 0f3a...', so that people see what kind of change it was.
    What is gone meanwhile counts as not there.
    """
    digest, count, total = hashlib.sha256(), 0, 0
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        count += 1
        total += found.st_size
        digest.update(f"{_told(path, found)}\n".encode("utf-8", "surrogateescape"))
    return f"{count} files, {total} bytes, {digest.hexdigest()[:16]}"


def _told(path: Path, found: os.stat_result) -> str:
    return f"{path.absolute()}/{found.st_size}/{found.st_mtime_ns}"
