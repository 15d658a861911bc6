"""Which part of a data set is used: the public fifth, caps, a split of a set that has none."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Indices, Labels
from regl_app.data.images import ImageSet
from regl_app.data.stratified import stratified_sample

Split = Literal["train", "test"]


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
    rng = numpy_generator(config.seed, f"max-{split}")
    return stratified_sample(labels, most, rng, keep_one=split == "train")
