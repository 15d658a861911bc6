"""A folder of class folders: which picture files it holds, and what of it is not read."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Self

from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.data.leftovers import is_leftover
from regl_app.data.picture_formats import ending_of, endings, remedy_for
from regl_app.data.same_files import each_once

NOTES = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm"}
    | {".log", ".ini", ".db", ".py", ".pdf"}
)
"""Endings of what lies beside pictures in many data sets: nobody misses a picture for them."""
_TOLD = 10
_LOOKED_INTO = 50


@dataclass
class LeftOut:
    """Files that are not read: how many by ending, links that lead nowhere, loose pictures.

    ``hidden`` are folders that are never read and hold pictures, by name: no pictures are missed.
    """

    endings: Counter[str] = field(default_factory=Counter)
    broken_links: int = 0
    beside: int = 0
    hidden: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(
            self.endings + other.endings,
            self.broken_links + other.broken_links,
            self.beside + other.beside,
            self.hidden + other.hidden,
        )

    def __bool__(self) -> bool:
        return bool(self.endings or self.broken_links or self.beside)

    @property
    def matters(self) -> bool:
        """Whether pictures may be missed, not notes alone."""
        return bool(self.broken_links or self.beside or set(self.endings) - NOTES)

    @property
    def words(self) -> str:
        """What is left out, by ending, with what would make it readable."""
        found = sorted(self.endings.items(), key=lambda each: (-each[1], each[0]))
        parts = []
        for ending, count in found[:_TOLD]:
            remedy = remedy_for(ending)
            parts.append(f"{count} {ending or 'without ending'}" + (f" ({remedy})" * bool(remedy)))
        if len(found) > _TOLD:
            parts.append(f"{sum(count for _, count in found[_TOLD:])} others")
        if self.broken_links:
            parts.append(f"{self.broken_links} links that lead nowhere")
        if self.beside:
            parts.append(f"{self.beside} pictures beside the class folders")
        return ", ".join(parts)

    def tell(self, what: str) -> None:
        """Log what is left out of ``what``, if there is anything."""
        if self:
            log = logger.warning if self.matters else logger.info
            log("%s: not read: %s", what, self.words)
        self.tell_hidden(what)

    def tell_hidden(self, what: str) -> None:
        """Log which folders in ``what`` are never read though they hold pictures."""
        if self.hidden:
            found = sorted(self.hidden.items(), key=lambda each: (-each[1], each[0]))
            told = ", ".join(f"{count} {name!r}" for name, count in found[:_TOLD])
            more = ", ..." if len(found) > _TOLD else ""
            logger.info("%s: never read, though pictures are in them: %s%s", what, told, more)


@dataclass(frozen=True)
class Found:
    """The picture files of some classes, each with its label, and what else lies there."""

    files: tuple[tuple[Path, int], ...]
    left_out: LeftOut
    by_class: tuple[LeftOut, ...]

    def once(self) -> Self:
        """Return these without files that a class has twice by hard links."""
        return replace(self, files=tuple(each_once(self.files)))

    @property
    def empty(self) -> tuple[int, ...]:
        """Return the labels of which there is no picture."""
        held = {label for _, label in self.files}
        return tuple(label for label in range(len(self.by_class)) if label not in held)


@dataclass(frozen=True)
class ClassFolders:
    """The subfolders of a folder by their names in NFC: one name may be that of several.

    ``what`` is what errors call the folder. Links are followed as far as ``roots`` allow.
    """

    root: Path
    what: str
    roots: AllowedFolders
    folders: Mapping[str, tuple[Path, ...]]
    beside: int = 0
    hidden: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, root: Path, what: str, roots: AllowedFolders | None = None) -> ClassFolders:
        """Return the subfolders of ``root``, sorted by name, hidden and systems' ones left out.

        Raises:
            DataError: it cannot be read, or a link in it leads out of ``roots``.
        """
        allowed = roots or AllowedFolders()
        found: dict[str, tuple[Path, ...]] = {}
        beside = 0
        hidden: Counter[str] = Counter()
        for entry in _entries(root, hidden):
            path = root / entry.name
            if path.is_dir():
                if entry.is_symlink():
                    allowed.inside(path, f"a folder of {what}")
                _check_name(entry.name, what)
                name = unicodedata.normalize("NFC", entry.name)
                found[name] = (*found.get(name, ()), path)
            elif ending_of(entry.name) in endings():
                beside += 1
        return cls(root, what, allowed, dict(sorted(found.items())), beside, hidden)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names, sorted."""
        return tuple(self.folders)

    def pictures(self, names: Sequence[str]) -> Found:
        """Return the picture files of the classes ``names``, labelled by their places in it.

        Each file is there once in a class, however many links lead to it; of hard links
        ``Found.once`` keeps one.

        Raises:
            DataError: a folder cannot be read, or a link leads out of what is allowed.
        """
        files: list[tuple[Path, int]] = []
        by_class = []
        for label, name in enumerate(names):
            left_out = LeftOut()
            paths = _files(self.folders.get(name, ()), self.roots, self.what, left_out)
            known = []
            for path in sorted(paths):
                if ending_of(path.name) in endings():
                    known.append((path, label))
                else:
                    left_out.endings[ending_of(path.name)] += 1
            files += known
            by_class.append(left_out)
        total = sum(by_class, LeftOut(beside=self.beside, hidden=self.hidden))
        return Found(tuple(files), total, tuple(by_class))


def _check_name(name: str, what: str) -> None:
    """Refuse a name that no run's files can hold, before anything is trained."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise DataError(
            f"{what} has a folder whose name is no UTF-8: '{shown}' (rename it: it is the name of "
            "a class)"
        ) from None


def nothing_found(found: Found, what: str) -> str:
    """Return what to say where there is not a single picture."""
    other = f"; it holds {found.left_out.words}" if found.left_out else ""
    return (
        f"{what} holds no image in its subfolders{other}; known endings: "
        f"{', '.join(sorted(endings()))}"
    )


def empty_classes(found: Found, names: Sequence[str]) -> str:
    """Return which classes hold no picture, each with what it holds instead; '' if none."""
    told = []
    for label in found.empty:
        held = found.by_class[label]
        told.append(f"{names[label]!r} ({held.words if held else 'empty'})")
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return ", ".join(told[:_TOLD]) + more


def _entries(folder: Path, hidden: Counter[str]) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, sorted; counts folders of pictures that are left out."""
    try:
        with os.scandir(folder) as found:
            every = list(found)
    except PermissionError:  # said by its key: ``readable``
        raise
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read: {error.strerror} (give this user the right to, or move it "
            "elsewhere)"
        ) from error
    entries = []
    for entry in every:
        if not is_leftover(entry.name):
            entries.append(entry)
        elif entry.is_dir(follow_symlinks=False) and _holds_pictures(entry.path):
            hidden[entry.name] += 1
    return sorted(entries, key=lambda entry: entry.name)


def _holds_pictures(folder: str) -> bool:
    """Return whether a picture lies in one of the first folders below ``folder``."""
    below = islice(os.walk(folder), _LOOKED_INTO)
    return any(ending_of(name) in endings() for _, _, names in below for name in names)


def _files(
    tops: Sequence[Path], roots: AllowedFolders, what: str, left_out: LeftOut
) -> Iterator[Path]:
    """Yield the files below ``tops``; what links lead to comes last, if it did not come before."""
    folders = list(tops)
    linked_folders: list[Path] = []
    linked_files: list[Path] = []
    seen: set[str] = set()
    while folders or linked_folders:
        folder = folders.pop(0) if folders else linked_folders.pop(0)
        real = os.path.realpath(folder)
        if real in seen:  # another link to it, or a circle
            continue
        seen.add(real)
        for entry in _entries(folder, left_out.hidden):
            path = folder / entry.name
            if entry.is_symlink():
                if not path.exists():
                    left_out.broken_links += 1
                    continue
                is_folder = path.is_dir()
                target = roots.inside(path, f"a {'folder' if is_folder else 'file'} of {what}")
                if is_folder:
                    if not Path(real).is_relative_to(target):  # up again: a circle
                        linked_folders.append(path)
                elif path.is_file():
                    linked_files.append(path)
            elif entry.is_dir():
                folders.append(path)
            elif entry.is_file():
                seen.add(f"{real}/{entry.name}")
                yield path
    for path in linked_files:
        if (real := os.path.realpath(path)) not in seen:
            seen.add(real)
            yield path
