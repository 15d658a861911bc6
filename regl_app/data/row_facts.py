"""What is known of an image beside its label: its row in the data set, its file, its columns."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from regl_app.core.errors import DataError
from regl_app.core.near_names import close_to
from regl_app.core.types import Indices

_TOLD = 10


@dataclass(frozen=True, eq=False)
class DataSetRows:
    """The rows that a data set comes with to train on, before a run leaves any of them out.

    ``read`` returns a value of each row for one of ``columns``. ``files`` are the rows' picture
    files, relative to the data set's folder, with '/'; in NFC, whatever their disk has, unless two
    differ in that alone; none where rows are no files. ``problem`` says why there are no columns
    though there is a table of such.
    """

    total: int
    columns: tuple[str, ...] = ()
    read: Callable[[str], Sequence[Any]] | None = None
    files: tuple[str, ...] = ()
    problem: str = ""

    def __post_init__(self) -> None:
        files = told_apart(self.files, lambda name: unicodedata.normalize("NFC", name))
        object.__setattr__(self, "files", files)

    def at(self, places: Indices) -> RowFacts:
        """Return the facts of images that were made from the rows ``places`` ``(N,)``."""
        return RowFacts(self, np.asarray(places, dtype=np.int64))

    def all(self) -> RowFacts:
        """Return the facts of an image of each row."""
        return self.at(np.arange(self.total, dtype=np.int64))

    @cached_property
    def place_of_file(self) -> dict[str, int]:
        """Return the row of each file."""
        return {name: place for place, name in enumerate(self.files)}

    def values(self, column: str) -> Sequence[Any]:
        """Return each row's value in ``column``.

        Raises:
            DataError: there is no such column; names those that there are.
        """
        if self.problem:
            raise DataError(f"partition.column={column!r}: {self.problem}")
        if self.read is None or column not in self.columns:
            close = close_to(column, self.columns)
            raise DataError(
                f"partition.column={column!r} is not in the data set: {self._held()}{close}"
            )
        return self.read(column)

    def _held(self) -> str:
        if not self.columns:
            return "it has no columns beside picture and label (docs/data.md says where they lie)"
        return f"it has {', '.join(map(repr, self.columns))}"


def told_apart(names: Sequence[str], clean: Callable[[str], str]) -> tuple[str, ...]:
    """Return ``names`` as ``clean`` has them, and as they are where several would be the same."""
    cleaned = [clean(name) for name in names]
    count = Counter(cleaned)
    both = zip(names, cleaned, strict=True)
    return tuple(own if count[name] > 1 else name for own, name in both)


@dataclass(frozen=True, eq=False)
class RowFacts:
    """Of each image of a set the row of its data set, ``places`` ``(N,)``."""

    whole: DataSetRows
    places: Indices

    def subset(self, chosen: Indices) -> Self:
        """Return the facts of the images at ``chosen`` ``(M,)``, in that order."""
        return replace(self, places=self.places[chosen])

    def names(self, column: str) -> list[str]:
        """Return each image's value in ``column`` as text in NFC, ``(N,)``.

        Raises:
            DataError: there is no such column, it holds lists or the like, or images have no value.
        """
        values = self.whole.values(column)
        texts = as_whole([as_text(values[int(place)]) for place in self.places])
        if empty := [place for place, text in zip(self.places, texts, strict=True) if not text]:
            told = ", ".join(self.row_name(int(place)) for place in empty[:_TOLD])
            raise DataError(
                f"partition.column={column!r}: {len(empty)} of {len(texts)} images have no value "
                f"that names a client ({told}{', ...' if empty[_TOLD:] else ''}); fill them in, "
                "remove these images, or choose another column"
            )
        return texts

    def row_name(self, place: int) -> str:
        """Return what a person calls the row ``place``: its file, else its number."""
        return self.whole.files[place] if self.whole.files else f"row {place}"


def as_text(value: Any) -> str:
    """Return a column's value as text in NFC; '' for None, NaN, and what is no single value."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, float):
        if value != value:
            return ""
        value = int(value) if value.is_integer() else value  # 7.0 where others are missing
    if not isinstance(value, str | int | float):
        return ""
    return unicodedata.normalize("NFC", str(value)).strip()


def as_whole(names: Sequence[str]) -> list[str]:
    """Return ``names`` without '.0', if all are whole numbers with it or without.

    A table's software writes 7 as 7.0 where other lines of the column are empty.
    """
    if not all(re.fullmatch(r"(-?[0-9]{1,18}(\.0+)?)?", name) for name in names):
        return list(names)
    return [name.partition(".")[0] for name in names]


def in_order(names: set[str]) -> list[str]:
    """Return ``names`` sorted: by number if all are whole numbers, else as text."""
    if all(map(is_number, names)):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def is_number(name: str) -> bool:
    """Whether ``name`` is a whole number of at most 18 digits."""
    return re.fullmatch(r"-?[0-9]{1,18}", name) is not None
