"""torchvision's data sets from a data root, laid out below it as torchvision does."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.concepts import concept, concepts_of
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore, as_squares
from regl_app.data.row_facts import DataSetRows
from regl_app.data.source import Source
from regl_app.data.sources.cifar import binary_files, load_binary
from regl_app.data.sources.data_root import absent, cannot_be_fetched, data_root
from regl_app.data.sources.hub import hub_files, load_hub
from regl_app.data.sources.idx import find_idx, read_idx
from regl_app.data.subsets import Split, kept_indices


@dataclass(frozen=True)
class _Idx:
    """One member of the MNIST family: its torchvision class, file prefixes and classes."""

    cls: str
    train: str
    test: str
    class_names: tuple[str, ...]
    concepts: tuple[str, ...]
    first_label: int = 0
    transposed: bool = False
    split: str = ""

    @property
    def names(self) -> list[str]:
        """Return the names of its files: images and labels to train on, then those to test on."""
        return [
            f"{prefix}-{kind}"
            for prefix in (self.train, self.test)
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ]


_DIGITS = tuple(string.digits)
_CLOTHES = {
    "t-shirt": "a t-shirt",
    "trousers": "a pair of trousers",
    "pullover": "a pullover",
    "dress": "a dress",
    "coat": "a coat",
    "sandal": "a sandal",
    "shirt": "a shirt",
    "sneaker": "a sneaker",
    "bag": "a bag",
    "ankle boot": "an ankle boot",
}
_LETTERS = tuple(string.ascii_lowercase)
_CAPITALS = tuple(string.ascii_uppercase)
# Letters of which both cases look alike are one class, called by the capital one.
_MERGED = (*_DIGITS, *_CAPITALS, *"abdefghnqrt")


def _emnist(split: str, names: tuple[str, ...], first_label: int = 0) -> _Idx:
    """Return a split of EMNIST, whose files hold each image transposed."""
    train, test = (f"emnist-{split}-{part}" for part in ("train", "test"))
    return _Idx("EMNIST", train, test, names, concepts_of(names), first_label, True, split)


_FAMILY: Mapping[str, _Idx] = MappingProxyType(
    {
        "mnist": _Idx("MNIST", "train", "t10k", _DIGITS, tuple(map(concept, _DIGITS))),
        "fashion-mnist": _Idx(
            "FashionMNIST", "train", "t10k", tuple(_CLOTHES), tuple(_CLOTHES.values())
        ),
        # 26 classes, cases merged; its files number them from 1.
        "emnist": _emnist("letters", _LETTERS, first_label=1),
        "emnist-digits": _emnist("digits", _DIGITS),
        "emnist-mnist": _emnist("mnist", _DIGITS),
        "emnist-balanced": _emnist("balanced", _MERGED),
        "emnist-bymerge": _emnist("bymerge", _MERGED),
        "emnist-byclass": _emnist("byclass", (*_DIGITS, *_CAPITALS, *_LETTERS)),
    }
)


def load_mnist_family(config: DataConfig, store: PictureStore | None = None) -> Source:
    """Return MNIST, Fashion-MNIST or a split of EMNIST, ``(N, 1, size, size)``.

    Reads ``<data.path>/<name>/raw`` in place, gzipped or not, so a read-only root works.
    """
    family = _FAMILY[config.source]
    folder, names = data_root(config) / family.cls / "raw", family.names
    if config.download and any(find_idx(folder, name) is None for name in names):
        _download(config, family)
    paths = [find_idx(folder, name) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if path is None]
    if missing:
        raise absent(config, folder, f"{', '.join(missing)} (plain or .gz)")
    train_images, train_labels, test_images, test_labels = (path for path in paths if path)
    return Source(
        config.source,
        _read(family, train_images, train_labels, config, "train", store),
        _read(family, test_images, test_labels, config, "test", store),
        family.class_names,
        family.concepts,
    )


def mnist_files(config: DataConfig) -> tuple[Path, ...]:
    """Return the idx files of ``load_mnist_family`` that are there."""
    family = _FAMILY[config.source]
    found = (find_idx(data_root(config) / family.cls / "raw", name) for name in family.names)
    return tuple(path for path in found if path)


def load_cifar(config: DataConfig, store: PictureStore | None = None) -> Source:
    """Return CIFAR-10 or CIFAR-100, ``(N, 3, size, size)``.

    From ``<data.path>/<source>/*.parquet`` as the hub publishes them, else the binary version.
    """
    if (inner := _parquet(config)) is not None:
        parquet, source = inner.path, load_hub(inner, store)
        if all(name.isdigit() for name in source.class_names):
            raise DataError(
                f"{parquet}: the label column has no class names (ClassLabel metadata), which the "
                "prompts need; fetch the files as the hub publishes them"
            )
        # The hub's CIFAR-100 calls a crab so.
        names = tuple("crab" if name == "cra" else name for name in source.class_names)
        concepts = tuple(concept(name, article=True) for name in names)
        # The binary version has no originals, and both are the same data set.
        train, test = (replace(each, originals=None) for each in (source.train, source.test))
        return Source(config.source, train, test, names, concepts)
    return load_binary(config, data_root(config), store)


def cifar_files(config: DataConfig) -> tuple[Path, ...]:
    """Return the files of ``load_cifar`` that are there."""
    inner = _parquet(config)
    return binary_files(config, data_root(config)) if inner is None else hub_files(inner)


def _parquet(config: DataConfig) -> DataConfig | None:
    """Return ``config`` with the folder of CIFAR's parquet files as its path, if it is there."""
    parquet = data_root(config) / config.source
    if not any(parquet.glob("**/train*.parquet")):
        return None
    return config.model_copy(update={"path": str(parquet)})


def _read(
    family: _Idx,
    image_path: Path,
    label_path: Path,
    config: DataConfig,
    split: Split,
    store: PictureStore | None,
) -> ImageSet:
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1).long() - family.first_label
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} holds {len(images)} images, but {label_path.name} {len(labels)} "
            "labels; fetch both files again"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(family.class_names):
        raise DataError(
            f"{label_path}: labels must lie in 0..{len(family.class_names) - 1}, got "
            f"{int(labels.min())}..{int(labels.max())}; fetch the file again"
        )
    if family.transposed:
        images = images.transpose(1, 2)
    kept = torch.from_numpy(kept_indices(labels.numpy(), config, split))
    facts = DataSetRows(len(labels)).at(kept.numpy())
    squares = as_squares(images[kept, None], config.image_size, store)
    return ImageSet(squares, labels[kept], facts=facts)


def _download(config: DataConfig, family: _Idx) -> None:
    """Fetch a member's idx files, compared with their published checksums, by torchvision."""
    from torchvision import datasets

    # Not made by its constructor, which reads the files it finds, old ones by torch.load.
    kind = getattr(datasets, family.cls)
    fetcher = kind.__new__(kind)
    fetcher.root, fetcher.train, fetcher.split = config.path, True, family.split
    try:
        fetcher.download()
    except (RuntimeError, OSError) as error:
        raise cannot_be_fetched(config, error) from error
