"""Hugging Face data sets, by hub id or from a local folder of parquet files."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Labels
from regl_app.data.concepts import concepts_of
from regl_app.data.decode import Encoded
from regl_app.data.originals import PictureFiles, file_state
from regl_app.data.read_pictures import PicturesRead, read_pictures
from regl_app.data.source import Source
from regl_app.data.subsets import Split, kept_indices, split_off_test

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_TEST_SPLITS = ("test", "validation", "valid")


def load_hub(config: DataConfig) -> Source:
    """Return the data set ``data.path``: a hub id, or a folder of ``train*``/``test*.parquet``.

    A data set without a test split loses a stratified ``data.test-fraction`` to it.

    Raises:
        DataError: it cannot be found or read, or has no image or label column.
    """
    splits = _load_splits(config)
    if "train" not in splits:
        raise DataError(f"data.path={config.path!r} has splits {sorted(splits)}, needs 'train'")
    image_column, label_column = _columns(splits["train"], config.path)
    names = _class_names(splits["train"], label_column)
    reader = _Reader(config, image_column, label_column, names)
    test_split = next((name for name in _TEST_SPLITS if name in splits), None)
    if test_split is None:
        read = reader.read([reader.rows(splits["train"])])
        train, test = split_off_test(read.images, config)
    else:
        rows = reader.rows(splits["train"], "train")
        read = reader.read([rows, reader.rows(splits[test_split], "test")])
        train, test = read.split(len(rows.labels))
    return Source(Path(config.path).name, train, test, names, concepts_of(names), read.unreadable)


def _load_splits(config: DataConfig) -> Any:
    import datasets

    folder = Path(config.path).expanduser()
    try:
        if folder.is_dir():
            files = {
                split: [str(path) for path in found]
                for split in ("train", *_TEST_SPLITS)
                if (found := sorted(folder.rglob(f"{split}*.parquet")))
            }
            if "train" not in files:
                raise DataError(
                    f"{folder} holds no train*.parquet; data.source='hub' expects a folder with "
                    "train*.parquet and test*.parquet, or a hub id such as 'ylecun/mnist'"
                )
            return datasets.load_dataset("parquet", data_files=files)
        if not config.download:
            raise DataError(
                f"data.path={config.path!r} is no local folder, and fetching it from the hub "
                "needs data.download=true"
            )
        # Without an owner it could be a reader of the library itself, one that unpickles say.
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.path):
            raise DataError(
                f"data.path={config.path!r} is no hub id: it must be owner/name, such as "
                "'ylecun/mnist'"
            )
        return datasets.load_dataset(config.path)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data.path={config.path!r} cannot be loaded: {type(error).__name__}: {error}; check "
            "the hub id or the parquet files, and the network"
        ) from error


def _columns(split: Any, path: str) -> tuple[str, str]:
    import datasets

    features = split.features
    image = next(
        (name for name, kind in features.items() if isinstance(kind, datasets.Image)),
        next((name for name in _IMAGE_COLUMNS if name in features), None),
    )
    label = next(
        (name for name in _LABEL_COLUMNS if name in features),
        next((n for n, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None),
    )
    if image is None or label is None:
        raise DataError(
            f"data.path={path!r} has columns {sorted(features)}; expected an image column "
            f"(one of {', '.join(_IMAGE_COLUMNS)}) and a label column "
            f"(one of {', '.join(_LABEL_COLUMNS)})"
        )
    return image, label


def _class_names(split: Any, column: str) -> tuple[str, ...]:
    import datasets

    feature = split.features[column]
    if isinstance(feature, datasets.ClassLabel):
        return tuple(feature.names)
    return tuple(str(value) for value in sorted(split.unique(column)))


@dataclass(frozen=True)
class _Rows:
    """Rows of one split: their pictures and labels."""

    files: PictureFiles
    labels: Labels


@dataclass(frozen=True)
class _Reader:
    """Turns rows of one data set into images and labels."""

    config: DataConfig
    image_column: str
    label_column: str
    class_names: tuple[str, ...]

    def _own_file(self, path: str | None, row: int) -> Path:
        """Return the file that a row without bytes names, if it is one of the data set's own."""
        import datasets

        found = Path(path or "").resolve()
        homes = (Path(self.config.path).expanduser(), Path(datasets.config.HF_CACHE_HOME))
        if path is None or not any(found.is_relative_to(home.resolve()) for home in homes):
            raise DataError(
                f"data.path={self.config.path!r}, row {row}: has no image, and names {path!r}, "
                "which is no file of the data set (repair the row or remove it)"
            )
        return found

    def read(self, parts: list[_Rows]) -> PicturesRead:
        """Return the pictures of all ``parts``, decoded together."""
        files = PictureFiles.joined([part.files for part in parts])
        return read_pictures(files, np.concatenate([part.labels for part in parts]), self.config)

    def rows(self, split: Any, cap: Split | None = None) -> _Rows:
        """Return the rows of ``split``, capped before they are decoded."""
        import datasets

        labels = self._labels(split)
        rows = np.arange(len(labels), dtype=np.int64)
        if cap is not None:
            rows = kept_indices(labels, self.config, cap)
        undecoded = split.select_columns(self.image_column).cast_column(
            self.image_column, datasets.Image(decode=False)
        )
        return _Rows(self._files(undecoded).subset(rows), labels[rows])

    def _files(self, undecoded: Any) -> PictureFiles:
        """Return the pictures of all rows; what is in the same Arrow files is the same picture."""
        arrow = [file_state(Path(each["filename"])) for each in undecoded.cache_files]
        told = hashlib.sha256("\n".join(arrow).encode("utf-8", "surrogateescape")).hexdigest()
        if not arrow:  # in memory alone: nobody can say whether it is the same another time
            told = uuid.uuid4().hex

        def opened(row: int) -> Encoded:
            cell = undecoded[row][self.image_column]
            name = f"{self.config.path}, row {row}"
            return name, cell["bytes"] or self._own_file(cell["path"], row)

        return PictureFiles(tuple(f"{told}/{row}" for row in range(len(undecoded))), opened)

    def _labels(self, split: Any) -> Labels:
        import datasets

        values = split[self.label_column]
        if isinstance(split.features[self.label_column], datasets.ClassLabel):
            labels = np.asarray(values, dtype=np.int64)
        else:
            index = {name: position for position, name in enumerate(self.class_names)}
            labels = np.array([index.get(str(value), -1) for value in values], dtype=np.int64)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise DataError(
                f"data.path={self.config.path!r} has rows without a label or with one that the "
                f"training split lacks (column {self.label_column!r}); remove those rows"
            )
        return labels
