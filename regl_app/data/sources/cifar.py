"""CIFAR-10 and CIFAR-100 from the publisher's binary version: plain bytes, nothing to unpickle.

A record is the label's byte (CIFAR-100: a coarse label's byte before it) and 3 x 32 x 32 pixels.
The 'python version' holds the same images as pickled objects, which run code when they are read.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.core.files import write_bytes
from regl_app.data.concepts import concept
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore, as_squares
from regl_app.data.row_facts import DataSetRows
from regl_app.data.source import Source
from regl_app.data.subsets import Split, kept_indices

_PIXELS = 3 * 32 * 32
_MOST_NAMES = 10_000  # bytes


@dataclass(frozen=True)
class Cifar:
    """One data set's binary version: its archive, its files and the bytes before the pixels."""

    cls: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    classes: int
    label_bytes: int
    records: int
    pickled: str

    @property
    def files(self) -> tuple[str, ...]:
        """Return all files that are read, below ``folder``."""
        return (*self.train, self.test, self.names)


FAMILY: Mapping[str, Cifar] = MappingProxyType(
    {
        "cifar10": Cifar(
            "CIFAR10",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin",
            tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test_batch.bin",
            "batches.meta.txt",
            classes=10,
            label_bytes=1,
            records=10_000,
            pickled="cifar-10-batches-py",
        ),
        "cifar100": Cifar(
            "CIFAR100",
            "03b5dce01913d631647c71ecec9e9cb8",
            "cifar-100-binary",
            ("train.bin",),
            "test.bin",
            "fine_label_names.txt",
            classes=100,
            label_bytes=2,
            records=50_000,
            pickled="cifar-100-python",
        ),
    }
)


def load_binary(config: DataConfig, root: Path, store: PictureStore | None = None) -> Source:
    """Return CIFAR-10 or CIFAR-100, ``(N, 3, size, size)``, from ``root/<folder>/*.bin``.

    Raises:
        DataError: files are absent, cut off or hold labels out of range; says the remedy.
    """
    family = FAMILY[config.source]
    folder = root / family.folder
    absent = [name for name in family.files if not (folder / name).is_file()]
    if absent and config.download:
        _fetch(family, root)
    elif absent:
        raise DataError(_remedy(config, family, root, folder, absent))
    names = _names(folder / family.names, family.classes)
    return Source(
        config.source,
        _read([folder / name for name in family.train], family, config, "train", store),
        _read([folder / family.test], family, config, "test", store),
        names,
        tuple(concept(name, article=True) for name in names),
    )


def binary_files(config: DataConfig, root: Path) -> tuple[Path, ...]:
    """Return the files of ``load_binary`` that are there."""
    family = FAMILY[config.source]
    paths = (root / family.folder / name for name in family.files)
    return tuple(path for path in paths if path.is_file())


def _read(
    paths: list[Path], family: Cifar, config: DataConfig, split: Split, store: PictureStore | None
) -> ImageSet:
    records = np.concatenate([_records(path, family) for path in paths])
    labels = records[:, family.label_bytes - 1].astype(np.int64)
    kept = kept_indices(labels, config, split)
    pixels = records[kept, family.label_bytes :].reshape(-1, 3, 32, 32)
    images = as_squares(torch.from_numpy(pixels), config.image_size, store)
    facts = DataSetRows(len(labels)).at(kept)
    return ImageSet(images, torch.from_numpy(labels[kept]), facts=facts)


def _records(path: Path, family: Cifar) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    size, length = path.stat().st_size, family.label_bytes + _PIXELS
    if size == 0 or size % length or size > family.records * length:
        raise DataError(
            f"{path}: must be 1 to {family.records} records of {length} bytes, has {size} bytes; "
            "fetch the file again"
        )
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, length)
    if (highest := int(records[:, family.label_bytes - 1].max())) >= family.classes:
        raise DataError(
            f"{path}: labels must lie in 0..{family.classes - 1}, got {highest}; fetch it again"
        )
    return records


def _names(path: Path, classes: int) -> tuple[str, ...]:
    if path.stat().st_size > _MOST_NAMES:
        raise DataError(f"{path}: more than {_MOST_NAMES} bytes for {classes} class names")
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != classes:
        raise DataError(f"{path}: must name {classes} classes, names {len(names)}")
    return names


def _fetch(family: Cifar, root: Path) -> None:
    """Download the archive, compare it with the published MD5 and take its files out by name."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_url

    url = getattr(datasets, family.cls).url.replace("-python.", "-binary.")
    archive = root / url.rsplit("/", 1)[1]
    try:
        download_url(url, root, md5=family.md5)
        with tarfile.open(archive, "r:gz") as content:
            for name in family.files:
                member = content.getmember(f"{family.folder}/{name}")
                stream = content.extractfile(member)
                if stream is None:
                    raise DataError(f"{archive}: {member.name} is no file")
                write_bytes(root / family.folder / name, stream.read())
    except (OSError, RuntimeError, KeyError, tarfile.TarError) as error:
        raise DataError(
            f"{url} cannot be fetched into data.path={os.fspath(root)!r}: {error}; check the "
            "network and that the folder is writable"
        ) from error


def _remedy(config: DataConfig, family: Cifar, root: Path, folder: Path, absent: list[str]) -> str:
    pickled = root / family.pickled
    seen = (
        f" ({pickled} is the 'python version', pickled objects, which run code when they are read "
        "and are therefore never opened)"
        if pickled.is_dir()
        else ""
    )
    return (
        f"data.source={config.source!r}: {folder} lacks {', '.join(absent)}{seen}: unpack the "
        f"'binary version' of the data set there, or put its parquet files into "
        f"{root / config.source}, or set data.download=true to fetch it (data.path={config.path!r})"
    )
