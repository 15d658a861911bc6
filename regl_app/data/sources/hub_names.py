"""Parquet files of one data set, whose lists of class names may differ: labels go by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from regl_app.core.errors import DataError
from regl_app.core.log import logger

_Lists = Mapping[str, tuple[str, ...] | None]
"""The list of names of each column of a file; None where its values have none."""


def load_files(
    files: Mapping[str, Sequence[str]], train: str, tests: Sequence[str], label: str
) -> dict[str, Any]:
    """Return the parquet ``files`` of each split as `datasets` has them, all with the same names.

    The library takes one file's list for that of all. Where lists differ, classes are those that
    the files of ``train`` name, in their order, and numbers become theirs by name. Where those of
    ``label`` differ, what is not used is left out: splits behind the first test split with labels.

    Args:
        files: the paths of each split's files.
        train: the split that is trained on.
        tests: those to test on, the first of which that has labels is used.
        label: the column of labels.

    Raises:
        DataError: rows are of a class that no file of ``train`` names, or numbers have no names.
    """
    import datasets

    own, differing = _differing(files, train)
    if label in differing:
        files = _used(files, train, tests, label)
        own, differing = _differing(files, train)
    if not differing:
        together = {split: list(paths) for split, paths in files.items()}
        return dict(datasets.load_dataset("parquet", data_files=together))
    base = features_of(files[train][0])
    classes = [_Classes.of(each, files[train], own, refuse=each == label) for each in differing]
    loaded = {}
    for split, paths in files.items():
        parts = []
        for lists, alike in groupby(paths, key=own.__getitem__):
            group = list(alike)
            named = {name: datasets.ClassLabel(names=list(lists.get(name) or ())) for name in base}
            here = features_of(group[0])
            plain = base | {name: here[name] for name in differing if name in here}
            kinds = {name: named[name] if lists.get(name) else plain[name] for name in base}
            features = datasets.Features(kinds)
            read = datasets.load_dataset("parquet", data_files={split: group}, features=features)
            part = read[split]
            for each in classes:
                part = each.translated(part, group[0], refuse=each.column == label)
            parts.append(part)
        whole = datasets.concatenate_datasets(parts)
        loaded[split] = whole.remove_columns(_nameless(paths, own, differing, label))
    return loaded


def _differing(
    files: Mapping[str, Sequence[str]], train: str
) -> tuple[dict[str, _Lists], list[str]]:
    """Return the lists of each file, and the columns of which there are different ones."""
    own = {path: _lists(path) for paths in files.values() for path in paths}
    return own, [column for column in own[files[train][0]] if len(_named(own, column)) > 1]


def _used(
    files: Mapping[str, Sequence[str]], train: str, tests: Sequence[str], label: str
) -> dict[str, Sequence[str]]:
    """Return the files of ``train`` and of ``tests`` up to the first that has labels."""
    used = {train: files[train]}
    for split in tests:
        used[split] = files[split]
        if any(_has_labels(path, label) for path in files[split]):
            break
    return used


def _has_labels(path: str, column: str) -> bool:
    import pyarrow.parquet

    if column not in pyarrow.parquet.read_schema(path).names:
        return False
    values = pyarrow.parquet.read_table(path, columns=[column])[column].to_pylist()
    return not all(map(is_none, values))


def _nameless(
    paths: Sequence[str], own: Mapping[str, _Lists], differing: Sequence[str], label: str
) -> list[str]:
    """Return the columns beside ``label`` whose numbers in one of ``paths`` could be of any list.

    The log names them.
    """
    found = {
        column: path for path in paths for column in differing if own[path].get(column, ()) is None
    }
    found.pop(label, None)
    for column, path in found.items():
        logger.warning(
            "%s has no names for the values in column %r, and other files have different ones: "
            "column %r is left out (write all files with one list)",
            path,
            column,
            column,
        )
    return list(found)


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
    def of(
        cls, column: str, train: Sequence[str], own: Mapping[str, _Lists], *, refuse: bool
    ) -> _Classes:
        """Return those that the files ``train`` name.

        Raises:
            DataError: a file has numbers alone, which could be those of any list, and is to be
                ``refuse``d.
        """
        told = {names: f"{path} lists {list(names)}" for names, path in _named(own, column).items()}
        for path, lists in own.items():
            if refuse and lists.get(column, ()) is None and _has_labels(path, column):
                raise DataError(
                    f"{path} has no names for the values in column {column!r}, and other files "
                    f"have different ones: {'; '.join(told.values())} (write all files with one "
                    "list, or name other splits by data.splits)"
                )
        trained = _named({path: own[path] for path in train}, column)
        every = dict.fromkeys(nfc(name) for path in train for name in own[path].get(column) or ())
        numbers = {name: number for number, name in enumerate(every)}
        return cls(column, numbers, "; ".join(told[names] for names in trained))

    def translated(self, part: Any, path: str, *, refuse: bool) -> Any:
        """Return rows of ``path`` and its like with these numbers; what is not named has none.

        Raises:
            DataError: rows are of other classes, and these are to ``refuse``.
        """
        import datasets

        names = getattr(part.features[self.column], "names", [])
        values = [-1 if value is None or not names else value for value in part[self.column][:]]
        to = [self.numbers.get(nfc(name), -1) for name in names]
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


def nfc(value: Any) -> Any:
    """Return a text in NFC, anything else as it is."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def is_none(value: Any) -> bool:
    """Return whether a value stands for no label: as a class nobody could learn it."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, int | float) and not value >= 0)  # NaN, -1
