"""Columns of an image folder: ``metadata.csv``, a line for each picture file."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.row_facts import DataSetRows, told_apart

NAME = "metadata.csv"
_FILE = ("file_name", "file", "path")
_SAME = "partition.column needs one line per picture"


class _NoTableError(DataError):
    """A ``metadata.csv`` that says nothing of picture files."""


@dataclass(frozen=True)
class Metadata:
    """A ``metadata.csv``: its columns, and where the file names in it begin."""

    path: Path
    file_column: str
    columns: tuple[str, ...]
    prefix: str = ""

    def values(self, column: str, files: Sequence[str]) -> list[str | None]:
        """Return the value in ``column`` of each of ``files``; None where no line names it.

        Raises:
            DataError: the file cannot be read, or two lines name one picture.
        """
        known = set(files)
        found: dict[str, tuple[int, str | None]] = {}
        for line, row in _lines(self.path):
            written = row.get(self.file_column) or ""
            own = self.prefix + written.removeprefix("./")
            name = own if own in known else self.prefix + _clean(written)
            if name in found:
                raise DataError(
                    f"{self.path}, line {line}: {name!r} is already in line {found[name][0]} "
                    f"({_SAME}: remove one)"
                )
            found[name] = (line, row.get(column))
        return [found[name][1] if name in found else None for name in files]


def folder_rows(
    root: Path, part: Path, paths: Sequence[Path], roots: AllowedFolders | None = None
) -> DataSetRows:
    """Return the rows of picture files below ``root``, with the columns of its ``metadata.csv``.

    It lies in ``root`` or in ``part``, the folder of what is trained on; names in it begin there.
    One that has no column of file names or is no CSV may be about something else: it is only
    refused where a column is asked for.

    Raises:
        DataError: it leads out of ``roots``.
    """
    files = told_apart([path.relative_to(root).as_posix() for path in paths], _clean)
    try:
        found = _find(root, part, roots or AllowedFolders())
    except _NoTableError as error:
        return DataSetRows(len(files), files=files, problem=str(error))
    if found is None:
        return DataSetRows(len(files), files=files)
    read: Callable[[str], Sequence[Any]] = lambda column: found.values(column, files)  # noqa: E731
    return DataSetRows(len(files), found.columns, read, files)


def _find(root: Path, part: Path, roots: AllowedFolders) -> Metadata | None:
    for folder in dict.fromkeys((root, part)):
        path = folder / NAME
        if not path.is_file():
            continue
        roots.inside(path, f"{NAME} of data.path")
        columns = _header(path)
        file_column = next((name for name in _FILE if name in columns), None)
        if file_column is None:
            raise _NoTableError(
                f"{path} must have a column 'file_name' with each picture's path from its folder, "
                f"has {', '.join(map(repr, columns)) or 'none'}"
            )
        inner = "" if folder == root else f"{_clean(folder.relative_to(root).as_posix())}/"
        others = tuple(name for name in columns if name != file_column)
        return Metadata(path, file_column, others, inner)
    return None


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            return list(csv.DictReader(stream).fieldnames or [])
    except (OSError, csv.Error) as error:
        raise _NoTableError(f"{path} cannot be read: {error} (it must be CSV in UTF-8)") from error


def _lines(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            return [(reader.line_num, dict(row)) for row in reader]
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error} (it must be CSV in UTF-8)") from error


def _clean(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./").strip())
