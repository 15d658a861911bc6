"""Street View House Numbers, cropped: ``train_32x32.mat`` and ``test_32x32.mat``."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.concepts import concept
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore, as_squares
from regl_app.data.row_facts import DataSetRows
from regl_app.data.source import Source
from regl_app.data.sources.data_root import absent, cannot_be_fetched, data_root
from regl_app.data.subsets import Split, kept_indices


def load_svhn(config: DataConfig, store: PictureStore | None = None) -> Source:
    """Return SVHN, ``(N, 3, size, size)``, from the files in ``data.path``; 'extra' is not used.

    Args:
        config: the run's data keys.
        store: where what any process of this machine has resized is found; None: nowhere.

    Raises:
        DataError: files are absent or damaged; says the remedy.
    """
    root, paths = data_root(config), _paths(config)
    if missing := [path.name for path in paths.values() if not path.is_file()]:
        if not config.download:
            raise absent(config, root, ", ".join(missing))
        _fetch(config, root)
    names = tuple(string.digits)
    train, test = (_read(path, config, split, store) for split, path in paths.items())
    return Source("svhn", train, test, names, tuple(map(concept, names)))


def svhn_files(config: DataConfig) -> tuple[Path, ...]:
    """Return the files of ``load_svhn`` that are there."""
    return tuple(path for path in _paths(config).values() if path.is_file())


def _paths(config: DataConfig) -> dict[Split, Path]:
    root = data_root(config)
    return {"train": root / "train_32x32.mat", "test": root / "test_32x32.mat"}


def _read(path: Path, config: DataConfig, split: Split, store: PictureStore | None) -> ImageSet:
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["X", "y"])
        pixels, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    except Exception as error:  # the reader raises whatever its bytes lead it to
        raise DataError(
            f"{path}: cannot be read ({error or type(error).__name__}); fetch the file again"
        ) from error
    # (32, 32, 3, N), as Matlab has it
    shape = (32, 32, 3, len(labels))
    if pixels.dtype != np.uint8 or pixels.shape != shape or not len(labels):
        raise DataError(
            f"{path}: X must be uint8 of shape (32, 32, 3, N) for N labels, is {pixels.dtype} "
            f"{pixels.shape} for {len(labels)}; fetch the file again"
        )
    if not 1 <= labels.min() <= labels.max() <= 10:
        raise DataError(
            f"{path}: labels must lie in 1..10 (10 is the digit 0), got {labels.min()}.."
            f"{labels.max()}; fetch the file again"
        )
    labels %= 10
    kept = kept_indices(labels, config, split)
    chosen = np.ascontiguousarray(pixels[..., kept].transpose(3, 2, 0, 1))
    images = as_squares(torch.from_numpy(chosen), config.image_size, store)
    facts = DataSetRows(len(labels)).at(kept)
    return ImageSet(images, torch.from_numpy(labels[kept]), facts=facts)


def _fetch(config: DataConfig, root: Path) -> None:
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import download_url

    try:
        for split in ("train", "test"):
            url, name, md5 = SVHN.split_list[split]
            download_url(url, root, name, md5)
    except (OSError, RuntimeError) as error:
        raise cannot_be_fetched(config, error) from error
