"""Hugging Face data sets, by hub id or from a local folder of parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from regl_app.config import DataConfig
from regl_app.data.concepts import concept
from regl_app.data.decode import decode_images
from regl_app.data.images import ImageSet
from regl_app.data.source import Source, split_off_test
from regl_app.errors import DataError

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
    train = _read(splits["train"], image_column, label_column, names, config)
    test_split = next((name for name in _TEST_SPLITS if name in splits), None)
    if test_split is None:
        train, test = split_off_test(train, config)
    else:
        test = _read(splits[test_split], image_column, label_column, names, config)
        channels = max(train.shape[0], test.shape[0])
        train, test = (
            ImageSet(part.images.expand(-1, channels, -1, -1).contiguous(), part.labels)
            for part in (train, test)
        )
    return Source(Path(config.path).name, train, test, names, tuple(map(concept, names)))


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


def _read(
    split: Any, image_column: str, label_column: str, names: tuple[str, ...], config: DataConfig
) -> ImageSet:
    import datasets

    values = split[label_column]
    if isinstance(split.features[label_column], datasets.ClassLabel):
        labels = [int(value) for value in values]
    else:
        index = {name: position for position, name in enumerate(names)}
        labels = [index.get(str(value), -1) for value in values]
    if labels and not 0 <= min(labels) <= max(labels) < len(names):
        raise DataError(
            f"data.path={config.path!r} has rows without a label or with one that the training "
            f"split lacks (column {label_column!r}); remove those rows"
        )
    undecoded = split.cast_column(image_column, datasets.Image(decode=False))[image_column]
    files = (
        (f"{config.path}, row {row}", cell["bytes"] or Path(cell["path"]))
        for row, cell in enumerate(undecoded)
    )
    return ImageSet(
        decode_images(files, config.image_size), torch.tensor(labels, dtype=torch.int64)
    )
