"""Which rows of a Hugging Face data set are trained and tested on: its splits and columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.sources.hub_names import features_of, load_files

TRAIN = ("train", "training")
TEST = ("test", "testing", "validation", "valid", "val", "dev", "eval")
"""Names of the split to test on, the first that is there and labelled."""
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<config>[\w.+ -]+))?")


@dataclass(frozen=True)
class HubId:
    """A data set on the hub: 'owner/name', with '@revision' and ':configuration' after it."""

    id: str
    revision: str | None = None
    config: str | None = None

    @classmethod
    def of(cls, path: str) -> Self:
        """Return what ``data.path`` names.

        Raises:
            DataError: it is no such id. Without an owner it could be a reader of the library
                itself, one that unpickles say.
        """
        found = _ID.fullmatch(path)
        if found is None:
            raise DataError(
                f"data.path={path!r} is no hub id: it must be owner/name, such as 'ylecun/mnist', "
                "with @revision and :configuration after it where they are needed"
            )
        return cls(**found.groupdict())


def load_splits(config: DataConfig) -> Mapping[str, Any]:
    """Return the splits of ``data.path`` by name, as `datasets` has them.

    Raises:
        DataError: it cannot be found or read.
    """
    import datasets

    folder = Path(config.path).expanduser()
    try:
        if folder.is_dir():
            files = _parquet_files(folder, config)
            train = train_split(files, config)
            tests = test_splits(files, config, train)
            return load_files(files, train, tests, _label_asked(files[train][0], config))
        if not config.download:
            raise DataError(
                f"data.path={config.path!r} is no local folder, and fetching it from the hub "
                "needs data.download=true"
            )
        hub = HubId.of(config.path)
        return _as_splits(datasets.load_dataset(hub.id, hub.config, revision=hub.revision))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        several = isinstance(error, ValueError) and "Config name is missing" in str(error)
        remedy = (
            f"name one: data.path={config.path}:<configuration>"
            if several
            else ("check the hub id or the parquet files, and the network")
        )
        raise DataError(
            f"data.path={config.path!r} cannot be loaded: {type(error).__name__}: {error}; {remedy}"
        ) from error


def _as_splits(loaded: Any) -> Mapping[str, Any]:
    """Return what the library loaded, a mapping: all splits were asked for."""
    return dict(loaded)


def _parquet_files(folder: Path, config: DataConfig) -> dict[str, list[str]]:
    """Return a folder's parquet files by split: by the word that their names begin with."""
    asked = config.split_names
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        split = _split_of(path, asked or (*TRAIN, *TEST))
        if split is not None:
            files.setdefault(split, []).append(path)
    if not any(name in files for name in asked[:1] or TRAIN):
        raise DataError(
            f"{folder} holds no {(*asked, 'train')[0]}*.parquet; data.source='hub' expects a "
            "folder with train*.parquet and test*.parquet, or a hub id such as 'ylecun/mnist' (or "
            "name the splits by data.splits)"
        )
    for split, found in files.items():
        homes = sorted({path.parent for path in found})
        if len(homes) > 1:
            raise DataError(
                f"{folder} holds {split}*.parquet in several folders, as of several "
                f"configurations: {', '.join(str(home.relative_to(folder)) for home in homes)} "
                "(set data.path to one of them)"
            )
    return {split: [str(path) for path in found] for split, found in files.items()}


def _split_of(path: Path, names: Sequence[str]) -> str | None:
    """Return which split a file is of: the longest name that it begins with, in any case."""
    stem = path.name.lower()
    found = [name for name in names if stem.startswith(name.lower())]
    return max(found, key=len, default=None)


def train_split(splits: Mapping[str, Any], config: DataConfig) -> str:
    """Return the name of the split to train on.

    Raises:
        DataError: it is not there.
    """
    asked = config.split_names
    for name in asked[:1] or TRAIN:
        if name in splits:
            return name
    what = f"data.splits={config.splits!r}" if asked else "'train'"
    raise DataError(
        f"data.path={config.path!r} has splits {sorted(splits)}, needs {what} (set data.splits, "
        "such as 'train,validation')"
    )


def test_splits(splits: Mapping[str, Any], config: DataConfig, train: str) -> tuple[str, ...]:
    """Return the names of splits to test on, the first of which that is labelled is taken.

    Raises:
        DataError: the one that ``data.splits`` names is not there.
    """
    asked = config.split_names
    if asked[1:] and asked[1] not in splits:
        raise DataError(
            f"data.path={config.path!r} has splits {sorted(splits)}, data.splits asks for "
            f"{asked[1]!r}"
        )
    names = asked[1:] if asked else TEST
    return tuple(name for name in names if name in splits and name != train)


def columns(split: Any, config: DataConfig) -> tuple[str, str]:
    """Return the names of the columns of images and of labels.

    Raises:
        DataError: one is not there, or holds something else.
    """
    import datasets

    features = split.features
    asked = config.column_names
    image, label = asked or (_image_column(features), _label_column(features))
    if image not in features or label not in features:
        raise DataError(
            f"data.path={config.path!r} has columns {sorted(features)}; expected an image column "
            f"(one of {', '.join(_IMAGE_COLUMNS)}) and a label column "
            f"(one of {', '.join(_LABEL_COLUMNS)}), or name them by data.columns"
            + (f", which asks for {config.columns!r}" if asked else "")
        )
    if not isinstance(features[label], (datasets.ClassLabel, datasets.Value)):
        raise DataError(
            f"data.path={config.path!r}: column {label!r} holds more than one value a picture "
            f"({features[label]}); a picture has one label here (name another column by "
            "data.columns)"
        )
    return image, label


def _image_column(features: Mapping[str, Any]) -> str:
    """Return the first column of pictures, or one that is called so; '' if there is none."""
    import datasets

    typed = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    return next(iter([*typed, *(name for name in _IMAGE_COLUMNS if name in features)]), "")


def _label_asked(file: str, config: DataConfig) -> str:
    """Return the name of the column of labels, as ``columns`` does, by a file's own columns."""
    return (config.column_names or ("", _label_column(features_of(file))))[1]


def _label_column(features: Mapping[str, Any]) -> str:
    """Return the column that is called by a usual name, or the first of classes; '' if none."""
    import datasets

    typed = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    return next(iter([*(name for name in _LABEL_COLUMNS if name in features), *typed]), "")
