"""Picture files that are two times in a data set by links of any kind, not as copies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def same_files(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return each file of ``second`` that is one of ``first`` as well, after that one.

    Links are followed, and hard links are known by their file. What is gone is none.
    """
    known = {key: path for path in first if (key := _key(path)) is not None}
    return [(known[key], path) for path in second if (key := _key(path)) in known]


def _key(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # Some network file systems number different files alike.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
