"""MedMNIST's flat data sets of one label a picture, ``<name>.npz`` or ``<name>_64.npz``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore, as_squares
from regl_app.data.row_facts import DataSetRows
from regl_app.data.source import Source
from regl_app.data.sources.data_root import absent, cannot_be_fetched, data_root
from regl_app.data.subsets import Split, kept_indices

SHOWS: Mapping[str, str] = MappingProxyType(
    {
        "pathmnist": "a colon pathology slide",
        "dermamnist": "a dermatoscopic photo",
        "octmnist": "a retinal OCT scan",
        "pneumoniamnist": "a chest X-ray",
        "retinamnist": "a fundus photo of diabetic retinopathy",
        "breastmnist": "a breast ultrasound image",
        "bloodmnist": "a blood smear under the microscope",
        "tissuemnist": "kidney tissue under the microscope",
        "organamnist": "an axial abdominal CT scan",
        "organcmnist": "a coronal abdominal CT scan",
        "organsmnist": "a sagittal abdominal CT scan",
    }
)
"""What a picture of each data set is, for the prompts."""
_SIZES = (28, 64, 128, 224)


def load_medmnist(config: DataConfig, store: PictureStore | None = None) -> Source:
    """Return a data set of MedMNIST, ``(N, 1 or 3, size, size)``, from ``data.path``.

    Of its files of 28, 64, 128 and 224 pixels the smallest that is not enlarged, of those that are
    there. Its validation part is not used.

    Raises:
        DataError: the package `medmnist` or the file is absent, or it is damaged.
    """
    info = _info(config)
    path = _file(config, info)
    names = tuple(info["label"][str(label)] for label in range(len(info["label"])))
    shown = SHOWS[config.source]
    concepts = tuple(f"{'grade ' * name.isdigit()}{name} in {shown}" for name in names)
    train, test = (_read(path, config, split, len(names), store) for split in ("train", "test"))
    return Source(config.source, train, test, names, concepts)


def medmnist_files(config: DataConfig) -> tuple[Path, ...]:
    """Return the files of ``load_medmnist`` that are there, of any size."""
    paths = (data_root(config) / _name(config.source, size) for size in _SIZES)
    return tuple(path for path in paths if path.is_file())


def _info(config: DataConfig) -> Mapping[str, Any]:
    try:
        from medmnist import INFO
    except ImportError as error:
        raise DataError(
            f"data.source={config.source!r} takes its classes' names from the package 'medmnist', "
            "which is not installed (pip install medmnist, or this package's extra 'medmnist')"
        ) from error
    found: Mapping[str, Any] = INFO[config.source]
    return found


def _file(config: DataConfig, info: Mapping[str, Any]) -> Path:
    root = data_root(config)
    paths = {size: root / _name(config.source, size) for size in _SIZES}
    there = [size for size in _SIZES if paths[size].is_file()]
    best = next((size for size in _SIZES if size >= config.image_size), _SIZES[-1])
    if not there or (config.download and best > there[-1]):
        if not config.download:
            raise absent(config, root, paths[best].name)
        _fetch(config, info, best, paths[best])
        return paths[best]
    return paths[next((size for size in there if size >= config.image_size), there[-1])]


def _name(source: str, size: int) -> str:
    return f"{source}.npz" if size == _SIZES[0] else f"{source}_{size}.npz"


def _read(
    path: Path, config: DataConfig, split: Split, classes: int, store: PictureStore | None
) -> ImageSet:
    try:
        with np.load(path, allow_pickle=False) as content:
            pixels, labels = content[f"{split}_images"], content[f"{split}_labels"]
    except (OSError, ValueError, KeyError, EOFError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from error
    except Exception as error:  # zipfile's and zlib's own kinds
        raise DataError(f"{path}: is damaged ({error}); fetch the file again") from error
    gray = pixels.ndim == 3
    fits = pixels.dtype == np.uint8 and (gray or (pixels.ndim == 4 and pixels.shape[3] == 3))
    if not fits or len(pixels) != labels.size or labels.dtype.kind not in "ui":
        raise DataError(
            f"{path}: {split}_images must be uint8 (N, H, W) or (N, H, W, 3) with as many labels, "
            f"are {pixels.dtype} {pixels.shape} with labels {labels.dtype} {labels.shape}; fetch "
            "the file again"
        )
    labels = labels.reshape(-1).astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"{path}: {split}_labels must lie in 0..{classes - 1}, got {labels.min()}.."
            f"{labels.max()}; fetch the file again"
        )
    kept = kept_indices(labels, config, split)
    chosen = torch.from_numpy(pixels[kept])
    images = chosen[:, None] if gray else chosen.permute(0, 3, 1, 2).contiguous()
    facts = DataSetRows(len(labels)).at(kept)
    squares = as_squares(images, config.image_size, store)
    return ImageSet(squares, torch.from_numpy(labels[kept]), facts=facts)


def _fetch(config: DataConfig, info: Mapping[str, Any], size: int, path: Path) -> None:
    from torchvision.datasets.utils import download_url

    of_size = "" if size == _SIZES[0] else f"_{size}"
    try:
        download_url(info[f"url{of_size}"], path.parent, path.name, info[f"MD5{of_size}"])
    except (OSError, RuntimeError) as error:
        raise cannot_be_fetched(config, error) from error
