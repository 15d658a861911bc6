"""Picture files that are two times in a data set by links of any kind, not as copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from regl_app.core.errors import DataError
from regl_app.core.log import logger

_Label = TypeVar("_Label", bound=Hashable)


def same_files(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return each file of ``second`` that is one of ``first`` as well, after that one.

    Links are followed, and hard links are known by their file. What is gone is none.
    """
    known = {key: path for path in first if (key := _key(path)) is not None}
    return [(known[key], path) for path in second if (key := _key(path)) in known]


def each_once(files: Iterable[tuple[Path, _Label]]) -> list[tuple[Path, _Label]]:
    """Return picture files with their labels, the first of those that are one file of one label."""
    seen = set()
    kept = []
    for path, label in files:
        key = _key(path)
        if key is None or (key, label) not in seen:
            seen.add((key, label))
            kept.append((path, label))
    return kept


def check_labels(files: Sequence[tuple[Path, str]], what: str) -> None:
    """Tell of picture files that are in two classes, refuse where a class has no other.

    What is split off to test on has them in one class, and is trained on in the other.

    Args:
        files: each with the name of its class; none is there twice in one.
        what: what messages call the folder.

    Raises:
        DataError: all pictures of a class are another's as well.
    """
    groups: dict[tuple[int, ...], list[tuple[Path, str]]] = {}
    for path, name in files:
        if (key := _key(path)) is not None:
            groups.setdefault(key, []).append((path, name))
    shared = [group for group in groups.values() if len(group) > 1]
    if not shared:
        return
    every = Counter(name for _, name in files)
    twice = Counter(name for group in shared for _, name in group)
    whole = next((name for name, count in twice.items() if count == every[name]), None)
    told = next(group for group in shared if whole in (None, *(name for _, name in group)))
    (first, name), (other, other_name) = told[:2]
    example = f"{other} of {other_name!r} is {first} of {name!r}"
    if whole is not None:
        raise DataError(
            f"{what}: every picture of {whole!r} is there as another's as well, by links: "
            f"{example} (remove the links, or one of the classes)"
        )
    logger.warning(
        "%s: %d of %d pictures are there twice, by links: %s; they are trained on as both, and "
        "where test images are split off may be tested on as the other (remove one of the links)",
        what,
        twice.total(),
        len(files),
        example,
    )


def _key(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # Some network file systems number different files alike.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
