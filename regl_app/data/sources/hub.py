"""Hugging Face data sets, by hub id or from a local folder of parquet files."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.core.file_states import files_state
from regl_app.core.log import logger
from regl_app.core.types import Indices, Labels
from regl_app.data.class_folders import NOTES
from regl_app.data.concepts import concepts_of
from regl_app.data.decode import Encoded
from regl_app.data.leftovers import is_leftover
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_pictures import PicturesRead, read_pictures
from regl_app.data.row_facts import DataSetRows, RowFacts
from regl_app.data.source import Source
from regl_app.data.sources.hub_names import is_none, nfc
from regl_app.data.sources.hub_splits import (
    HubId,
    columns,
    load_splits,
    test_splits,
    train_split,
)
from regl_app.data.subsets import Split, kept_indices, split_off_test

_TOLD = 10


def load_hub(config: DataConfig, store: PictureStore | None = None) -> Source:
    """Return the data set ``data.path``: a hub id, or a folder of ``train*``/``test*.parquet``.

    A data set without a labelled test split loses a stratified ``data.test-fraction`` to it.

    Raises:
        DataError: it cannot be found or read, has no image or label column, or rows without a
            label.
    """
    splits = load_splits(config)
    train = train_split(splits, config)
    image_column, label_column = columns(splits[train], config)
    names = _class_names(splits[train], label_column, config)
    reader = _Reader(config, image_column, label_column, names, store)
    test_split = _labelled(reader, splits, test_splits(splits, config, train))
    if test_split is None:
        rows = reader.rows(splits[train], train)
        read = reader.read([rows])
        images, test = split_off_test(read.split(reader.facts(splits[train], rows))[0], config)
    else:
        rows = reader.rows(splits[train], train, "train")
        read = reader.read([rows, reader.rows(splits[test_split], test_split, "test")])
        images, test = read.split(reader.facts(splits[train], rows))
    name = Path(config.path).name.partition(":")[0].partition("@")[0]
    return Source(name, images, test, names, concepts_of(names), read.unreadable, read.depth)


def _labelled(reader: _Reader, splits: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of the splits ``names`` in which a row has a label; others are named."""
    for name in names:
        if len(splits[name]) and reader.has_labels(splits[name]):
            return name
        logger.warning(
            "data.path=%r: split %r has no labels to test by and is passed over",
            reader.config.path,
            name,
        )
    return None


def _class_names(split: Any, column: str, config: DataConfig) -> tuple[str, ...]:
    """Return the classes, in NFC: those that the data set names, or the values that there are.

    Raises:
        DataError: the values are measurements.
    """
    import datasets

    feature = split.features[column]
    if isinstance(feature, datasets.ClassLabel):
        return tuple(map(nfc, feature.names))
    values = {nfc(value) for value in split.unique(column) if not is_none(value)}
    if broken := [value for value in values if isinstance(value, float) and value % 1 != 0]:
        raise DataError(
            f"data.path={config.path!r}: column {column!r} holds {min(broken)}, which is a "
            "measurement: these are no classes (name a column of classes by data.columns, or "
            "write ranges of it as text)"
        )
    return tuple(map(str, sorted(values)))


@dataclass(frozen=True)
class _Rows:
    """Rows of one split: their numbers, pictures and labels."""

    numbers: Indices
    files: PictureFiles
    labels: Labels


@dataclass(frozen=True)
class _Reader:
    """Turns rows of one data set into images and labels."""

    config: DataConfig
    image_column: str
    label_column: str
    class_names: tuple[str, ...]
    store: PictureStore | None = None

    def _own_file(self, path: str, name: str) -> Path:
        """Return the file that row ``name`` has in place of bytes, if it is the data set's own."""
        found = Path(path).resolve()
        homes = (Path(self.config.path).expanduser(), *_caches())
        if not any(found.is_relative_to(home.resolve()) for home in homes):
            raise DataError(
                f"{name}: has no image, and names {path!r}, which is no file of the data set "
                "(repair the row or remove it)"
            )
        return found

    def read(self, parts: list[_Rows]) -> PicturesRead:
        """Return the pictures of all ``parts``, decoded together."""
        files = PictureFiles.joined([part.files for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        return read_pictures(files, labels, self.config, store=self.store)

    def has_labels(self, split: Any) -> bool:
        """Return whether any row of ``split`` has a label: where tests are secret, none does."""
        return bool((self._labels(split) >= 0).any())

    def rows(self, split: Any, name: str, cap: Split | None = None) -> _Rows:
        """Return the rows of ``split``, called ``name``, capped before they are decoded.

        Raises:
            DataError: some have no label, or one that the training split lacks.
        """
        import datasets

        labels = self._labels(split)
        if unknown := np.flatnonzero((labels < 0) | (labels >= len(self.class_names))).tolist():
            told = ", ".join(map(str, unknown[:_TOLD])) + (", ..." if unknown[_TOLD:] else "")
            raise DataError(
                f"data.path={self.config.path!r}, split {name!r}: {len(unknown)} rows have no "
                f"label, or one that the training split lacks (column {self.label_column!r}, rows "
                f"{told}; nothing, NaN and negative numbers are no labels: remove those rows, "
                "write classes as text, or name other splits or columns by data.splits and "
                "data.columns)"
            )
        rows = np.arange(len(labels), dtype=np.int64)
        if cap is not None:
            rows = kept_indices(labels, self.config, cap)
        undecoded = split.select_columns(self.image_column).cast_column(
            self.image_column, datasets.Image(decode=False)
        )
        return _Rows(rows, self._files(undecoded, name).subset(rows), labels[rows])

    def facts(self, split: Any, rows: _Rows) -> RowFacts:
        """Return what the other columns of ``split`` say of ``rows``."""
        import datasets

        columns = tuple(name for name in split.column_names if name != self.image_column)

        def read(column: str) -> Sequence[Any]:
            values = split.select_columns(column)[:][column]
            if not isinstance(feature := split.features[column], datasets.ClassLabel):
                return list(values)
            has = [value is not None and value >= 0 for value in values]
            return [feature.names[v] if h else None for v, h in zip(values, has, strict=True)]

        return DataSetRows(len(split), columns, read).at(rows.numbers)

    def _files(self, undecoded: Any, split: str) -> PictureFiles:
        """Return the pictures of all rows; what is in the same Arrow files is the same picture."""
        arrow = [Path(each["filename"]) for each in undecoded.cache_files]
        # Rows may name files in the data set's folder in place of their bytes.
        states = f"{files_state(arrow)}\n{files_state(hub_files(self.config))}"
        told = hashlib.sha256(states.encode()).hexdigest()
        if not arrow:  # in memory alone: nobody can say whether it is the same another time
            told = uuid.uuid4().hex

        def opened(row: int) -> Encoded:
            cell = undecoded[row][self.image_column] or {}
            name = f"{self.config.path}, split {split!r}, row {row}"
            if cell.get("bytes") or not cell.get("path"):
                return name, cell.get("bytes") or b""
            return name, self._own_file(cell["path"], name)

        states_of_rows = tuple(f"{told}/{row}" for row in range(len(undecoded)))
        return PictureFiles(states_of_rows, opened, lasting=bool(arrow))

    def _labels(self, split: Any) -> Labels:
        """Return the label of each row, ``(N,)``, negative where there is none."""
        import datasets

        values = split[self.label_column]
        if isinstance(split.features[self.label_column], datasets.ClassLabel):
            return np.array([-1 if value is None else value for value in values], dtype=np.int64)
        index = {name: position for position, name in enumerate(self.class_names)}
        return np.array(
            [-1 if is_none(value) else index.get(str(nfc(value)), -1) for value in values],
            dtype=np.int64,
        )


def hub_files(config: DataConfig) -> tuple[Path, ...]:
    """Return the files of ``load_hub``: those of its folder, or what the library has of the hub's.

    Of the folder's all but notes and what is hidden, as rows may name files in it. Of the hub's
    that is what was prepared of any revision, and which one is the newest here; what programs make
    of it (``map``, ``filter``) lies beside it and is no part of it.
    """
    import datasets
    import huggingface_hub.constants as hub

    folder = Path(config.path).expanduser()
    if folder.is_dir():
        every = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return tuple(path for path in every if _may_be_read(path.relative_to(folder)))
    found = HubId.of(config.path)
    owner, name = found.id.split("/")
    named = f"{owner}___{datasets.naming.camelcase_to_snakecase(name)}"
    prepared = Path(datasets.config.HF_DATASETS_CACHE) / named
    newest = Path(hub.HF_HUB_CACHE) / f"datasets--{owner}--{name}" / "refs"
    arrow = (path for path in sorted(prepared.rglob("*.arrow")) if _is_prepared(path))
    return (*arrow, *sorted(newest.rglob("*")))


def _may_be_read(path: Path) -> bool:
    """Return whether a file of a data set's folder, at ``path`` in it, may be a part of the set."""
    return not any(map(is_leftover, path.parts)) and path.suffix.lower() not in NOTES


def _is_prepared(path: Path) -> bool:
    """Return whether an Arrow file of the library's cache is a data set's own, and complete."""
    made = path.name.startswith("cache-")
    return not made and not any(part.endswith(".incomplete") for part in path.parts)


def _caches() -> tuple[Path, ...]:
    """Return where the library may have laid a data set's files: each can be moved by itself."""
    import datasets
    import huggingface_hub.constants as hub

    config = datasets.config
    return tuple(
        map(
            Path,
            (
                config.HF_CACHE_HOME,
                config.HF_DATASETS_CACHE,
                config.DOWNLOADED_DATASETS_PATH,
                config.EXTRACTED_DATASETS_PATH,
                hub.HF_HUB_CACHE,
            ),
        )
    )
