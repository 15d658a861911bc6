"""A guess at what was meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from regl_app.core.start_dir import start_dir

_MOST = 5


def close_to(name: str, known: Sequence[str]) -> str:
    """Return the words that suggest one of ``known``, or ''."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def near_path(path: str, *endings: str) -> str:
    """Return the words that tell what the folder that ``path`` should be in holds instead.

    ``''`` where there is no such folder, it is the one that the run was started in, or holds it.

    Args:
        path: that is not there, as a key has it; a hub id's revision is left out.
        endings: of files that may be meant, beside folders.
    """
    place = _place(path)
    held = _held_beside(place, endings)
    if held is None:
        return ""
    told = f"{str(place.parent)!r} is a folder here that holds no {place.name!r}"
    if close := _closest(place, held):
        return f"{told} (did you mean {str(place.parent / close)!r}?)"
    if held:
        more = ", ..." * (len(held) > _MOST)
        return f"{told} (it holds {', '.join(map(repr, held[:_MOST]))}{more})"
    return told


def is_mistyped(path: str, *endings: str) -> bool:
    """Return whether what ``near_path`` tells of has a name much like that of ``path``."""
    place = _place(path)
    return bool(_closest(place, _held_beside(place, endings) or []))


def _place(path: str) -> Path:
    return Path(path.partition("@")[0]).expanduser()


def _closest(place: Path, held: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(place.name, held, n=1)), "")


def _held_beside(place: Path, endings: Sequence[str]) -> list[str] | None:
    """Return the names in the folder that ``place`` should be in; None: see ``near_path``."""
    folder = start_dir() / place.parent
    if place.parent == Path() or not folder.is_dir() or (folder / place.name).exists():
        return None
    try:
        return sorted(
            each.name
            for each in folder.iterdir()
            if not each.name.startswith(".") and (each.is_dir() or each.suffix in endings)
        )
    except OSError:
        return []
