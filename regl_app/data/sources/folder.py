"""Any image folder: one subfolder per class, optionally below ``train/`` and ``test/``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.concepts import concepts_of
from regl_app.data.images import ImageSet
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_formats import endings
from regl_app.data.read_pictures import read_pictures
from regl_app.data.source import Source
from regl_app.data.subsets import kept_indices, split_off_test


def load_folder(config: DataConfig) -> Source:
    """Return the images below ``data.path``; classes are named by their folders, sorted.

    Without ``train/`` and ``test/`` a stratified ``data.test-fraction`` becomes the test set.

    Raises:
        DataError: the folder, its classes or images are absent, or a file is unreadable.
    """
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise DataError(
            f"data.path={config.path!r} is not a folder; data.source='folder' expects a folder "
            "with one subfolder of images per class, or with train/ and test/ that hold them"
        )
    split = (root / "train").is_dir() and (root / "test").is_dir()
    train_root = root / "train" if split else root
    names = subfolders(train_root)
    if not names:
        raise DataError(f"{train_root} has no subfolders; expected one subfolder per class")
    images = _read(train_root, names, config)
    if split:
        extra = sorted(set(subfolders(root / "test")) - set(names))
        if extra:
            raise DataError(f"{root / 'test'} has classes that train/ lacks: {', '.join(extra)}")
        train, test = images, _read(root / "test", names, config)
        channels = max(train.shape[0], test.shape[0])
        train, test = train.with_channels(channels), test.with_channels(channels)
        train = train.subset(kept_indices(train.labels.numpy(), config, "train"))
        test = test.subset(kept_indices(test.labels.numpy(), config, "test"))
    else:
        train, test = split_off_test(images, config)
    return Source(root.name, train, test, names, concepts_of(names))


def subfolders(root: Path) -> tuple[str, ...]:
    """Return the names of the folders in ``root``, sorted; hidden ones are left out."""
    return tuple(
        sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    )


def _read(root: Path, names: tuple[str, ...], config: DataConfig) -> ImageSet:
    found = image_files(root, names)
    files = PictureFiles.of_paths(tuple(path for path, _ in found))
    return read_pictures(
        files, np.array([label for _, label in found], dtype=np.int64), config
    ).images


def image_files(root: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return the image files in the subfolders ``names`` of ``root``, each with its label.

    Raises:
        DataError: there is none.
    """
    files = [
        (path, label)
        for label, name in enumerate(names)
        if (root / name).is_dir()
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in endings() and path.is_file()
    ]
    if not files:
        raise DataError(
            f"{root} holds no image in its subfolders; known endings: "
            f"{', '.join(sorted(endings()))}"
        )
    return files
