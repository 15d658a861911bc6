"""Parquet files of one data set, whose lists of class names may differ: labels go by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from regl_app.core.errors import DataError

_Lists = Mapping[str, tuple[str, ...] | None]
"""The list of names of each column of a file; None where its values have none."""


def load_files(files: Mapping[str, Sequence[str]], train: str, label: str) -> dict[str, Any]:
    """Return the parquet ``files`` of each split as `datasets` has them, all with the same names.

    The library takes one file's list for that of all. Where lists differ, classes are those that
    the files of ``train`` name, in their order, and numbers become theirs by name.

    Args:
        files: the paths of each split's files.
        train: the split that is trained on.
        label: the column of labels.

    Raises:
        DataError: rows are of a class that no file of ``train`` names, or numbers have no names.
    """
    import datasets

    own = {path: _lists(path) for paths in files.values() for path in paths}
    differing = [column for column in own[files[train][0]] if len(_named(own, column)) > 1]
    if not differing:
        together = {split: list(paths) for split, paths in files.items()}
        return dict(datasets.load_dataset("parquet", data_files=together))
    base = features_of(files[train][0])
    classes = [_Classes.of(column, files[train], own) for column in differing]
    loaded = {}
    for split, paths in files.items():
        parts = []
        for lists, alike in groupby(paths, key=own.__getitem__):
            group = list(alike)
            named = {name: datasets.ClassLabel(names=list(lists.get(name) or ())) for name in base}
            kinds = {name: named[name] if lists.get(name) else kind for name, kind in base.items()}
            features = datasets.Features(kinds)
            read = datasets.load_dataset("parquet", data_files={split: group}, features=features)
            part = read[split]
            for each in classes:
                part = each.translated(part, group[0], refuse=each.column == label)
            parts.append(part)
        loaded[split] = datasets.concatenate_datasets(parts)
    return loaded


def features_of(path: str) -> Any:
    """Return the columns of a parquet file and their types, as `datasets` has them."""
    import datasets
    import pyarrow.parquet

    return datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(path))


def _lists(path: str) -> _Lists:
    import datasets

    return {
        name: tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None
        for name, kind in features_of(path).items()
    }


def _named(own: Mapping[str, _Lists], column: str) -> dict[tuple[str, ...], str]:
    """Return the lists of names that ``column`` has, each with a file that has it."""
    return {names: path for path, lists in own.items() if (names := lists.get(column)) is not None}


@dataclass(frozen=True)
class _Classes:
    """The classes of a column of which files have different lists, with their numbers."""

    column: str
    numbers: Mapping[str, int]
    told: str
    """Which training files list what, in words."""

    @classmethod
    def of(cls, column: str, train: Sequence[str], own: Mapping[str, _Lists]) -> _Classes:
        """Return those that the files ``train`` name.

        Raises:
            DataError: a file has numbers alone, which could be those of any list.
        """
        told = {names: f"{path} lists {list(names)}" for names, path in _named(own, column).items()}
        for path, lists in own.items():
            if lists.get(column, ()) is None:
                raise DataError(
                    f"{path} has no names for the values in column {column!r}, and other files "
                    f"have different ones: {'; '.join(told.values())} (write all files with one "
                    "list)"
                )
        trained = _named({path: own[path] for path in train}, column)
        every = dict.fromkeys(_nfc(name) for path in train for name in own[path].get(column) or ())
        numbers = {name: number for number, name in enumerate(every)}
        return cls(column, numbers, "; ".join(told[names] for names in trained))

    def translated(self, part: Any, path: str, *, refuse: bool) -> Any:
        """Return rows of ``path`` and its like with these numbers; what is not named has none.

        Raises:
            DataError: rows are of other classes, and these are to ``refuse``.
        """
        import datasets

        names = part.features[self.column].names
        values = [-1 if value is None else value for value in part[self.column][:]]
        to = [self.numbers.get(_nfc(name), -1) for name in names]
        lost = [value for value in values if value >= 0 and to[value] < 0]
        if refuse and lost:
            raise DataError(
                f"{path}: {lost.count(lost[0])} rows of {names[lost[0]]!r} in column "
                f"{self.column!r}, a class that the training files do not name: it lists {names}, "
                f"and {self.told} (correct the lists, or name other splits by data.splits)"
            )
        numbers = [to[value] if value >= 0 else -1 for value in values]
        kind = datasets.ClassLabel(names=list(self.numbers))
        others = part.remove_columns(self.column)
        return others.add_column(self.column, numbers, feature=kind).select_columns(
            part.column_names
        )


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
