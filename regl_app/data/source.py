"""Data sources by name: labelled images for training and test, with their classes' names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np

from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.errors import DataError
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Indices, Labels
from regl_app.data.images import ImageSet
from regl_app.data.stratified import stratified_sample

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Source:
    """A classification data set at the classifier's resolution."""

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    """Short names, e.g. ``3``."""
    concepts: tuple[str, ...]
    """Phrases for text prompts, e.g. ``the digit three``."""

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)


@lru_cache(maxsize=2)
def load_source(config: DataConfig) -> Source:
    """Return the source of ``config``, resized and capped (cached per process).

    Raises:
        DataError: files are absent or damaged; says what is expected where, and the remedy.
    """
    source = _loaders()[config.source](config)
    if source.num_classes < 2:
        raise DataError(f"data.source={config.source!r} has {source.num_classes} class, needs 2")
    if isinstance(config, PublicDataConfig) or config.source == "site":
        return source
    if len(source.train) == 0 or len(source.test) == 0:
        raise DataError(
            f"data.source={config.source!r} has {len(source.train)} training and "
            f"{len(source.test)} test images, needs at least one of each"
        )
    return source


def split_off_test(images: ImageSet, config: DataConfig) -> tuple[ImageSet, ImageSet]:
    """Return (train, test), capped: a stratified ``data.test-fraction`` of a set without split."""
    images = images.subset(_own_part(images.labels.numpy(), config))
    if isinstance(config, PublicDataConfig):
        return images, images.subset(np.empty(0, dtype=np.int64))
    wanted = math.ceil(config.test_fraction * len(images))
    rng = numpy_generator(config.seed, "test-split")
    chosen = stratified_sample(images.labels.numpy(), wanted, rng, leave_one=True)
    kept = np.delete(np.arange(len(images), dtype=np.int64), chosen)
    train, test = images.subset(kept), images.subset(chosen)
    return (
        train.subset(_capped(train.labels.numpy(), config, "train")),
        test.subset(_capped(test.labels.numpy(), config, "test")),
    )


def kept_indices(labels: Labels, config: DataConfig, split: Split) -> Indices:
    """Return which of a split's ``labels`` (N,) are used: not public, and as many as keys allow.

    For a source with a test split of its own. Of the public part, all of it is.
    """
    part = np.arange(len(labels), dtype=np.int64)
    if split == "train":
        part = _own_part(labels, config)
    if isinstance(config, PublicDataConfig):
        return part
    return part[_capped(labels[part], config, split)]


def _own_part(labels: Labels, config: DataConfig) -> Indices:
    """Return which of ``labels`` ``(N,)`` belong to the clients, or to the public."""
    everything = np.arange(len(labels), dtype=np.int64)
    if config.public_fraction == 0:
        return everything[:0] if isinstance(config, PublicDataConfig) else everything
    # Not by data.seed: what was public for a pretrained generator stays so in every split.
    wanted = round(config.public_fraction * len(labels))
    public = stratified_sample(labels, wanted, numpy_generator(0, "public"))
    return public if isinstance(config, PublicDataConfig) else np.delete(everything, public)


def _capped(labels: Labels, config: DataConfig, split: Split) -> Indices:
    most = config.max_train if split == "train" else config.max_test
    if most == 0 or len(labels) <= most:
        return np.arange(len(labels), dtype=np.int64)
    return stratified_sample(labels, most, numpy_generator(config.seed, f"max-{split}"))


def _loaders() -> Mapping[str, Callable[[DataConfig], Source]]:
    # The loaders build a Source, so they import this module: not the other way at import time.
    from regl_app.data.digits import load_digits
    from regl_app.data.folder import load_folder
    from regl_app.data.hub import load_hub
    from regl_app.data.site import load_server_part
    from regl_app.data.vision import load_cifar, load_mnist_family

    return MappingProxyType(
        {
            "digits": load_digits,
            "mnist": load_mnist_family,
            "fashion-mnist": load_mnist_family,
            "emnist": load_mnist_family,
            "cifar10": load_cifar,
            "cifar100": load_cifar,
            "hub": load_hub,
            "folder": load_folder,
            "site": load_server_part,
        }
    )
