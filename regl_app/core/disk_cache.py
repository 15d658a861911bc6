"""Caches that stay below a size: the least recently used entries go first.

An entry is a file or a folder; its modification time is when it was last used. Several processes
may share a cache: an entry is renamed before it is removed, so a reader finds it whole or not at
all, and what a reader has open stays readable until it is closed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from regl_app.core.files import delete

GIGABYTE = 10**9
_DAY = 24 * 3600.0
_SWEPT = "swept"
# What regl_app.core.files leaves when a process is killed, and what is left of a removal.
_LEFTOVER = re.compile(r"\..*\.\d+-[0-9a-f]{8}(?:\..*)?|\..*\.lock")


@dataclass(frozen=True)
class Entry:
    """One file or folder of a cache, its bytes and when it was last used (ns)."""

    path: Path
    size: int
    used: int


def touch(path: Path) -> None:
    """Note that the entry at ``path`` is used now; it may be gone or not ours to write."""
    with contextlib.suppress(OSError):
        os.utime(path)


def entries(root: Path, pattern: str) -> list[Entry]:
    """Return the entries of ``root`` that match and may be seen, least recently used first."""
    found = []
    for path in root.glob(pattern):
        if path.name.startswith("."):
            continue
        with contextlib.suppress(OSError):  # removed meanwhile, or another user's own
            state = path.stat()
            size = (
                sum(file.stat().st_size for file in path.iterdir())
                if path.is_dir()
                else state.st_size
            )
            found.append(Entry(path, size, state.st_mtime_ns))
    return sorted(found, key=lambda entry: (entry.used, entry.path.name))


def evict(root: Path, pattern: str, most: int, *, keep: Path, spare: float = 0.0) -> None:
    """Remove entries until at most ``most`` bytes are left, and what killed processes left.

    Args:
        root: the cache.
        pattern: of the entries below it.
        most: bytes.
        keep: is not removed, whatever its size.
        spare: nor is what was used within so many seconds: it may be in use.
    """
    found = entries(root, pattern)
    excess = sum(entry.size for entry in found) - most
    newest = time.time_ns() - int(spare * 1e9)
    for entry in found:
        if excess <= 0 or (spare > 0 and entry.used > newest):
            break
        if entry.path != keep and _remove(entry.path):
            excess -= entry.size
    _sweep(root)


def _remove(path: Path) -> bool:
    """Remove an entry; return whether it is gone. Another user's may have to stay."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(hidden)
    except FileNotFoundError:  # by another process
        return True
    except OSError:
        return False
    delete(hidden)
    return True


def _sweep(root: Path) -> None:
    """Once a day, remove temporary and lock files that nobody has touched for a day."""
    marker, oldest = root / _SWEPT, time.time() - _DAY
    with contextlib.suppress(OSError):
        if marker.exists() and marker.stat().st_mtime > oldest:
            return
        marker.touch()
        for path in [*root.glob(".*"), *root.glob("*/.*")]:
            if _LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < oldest:
                delete(path)
