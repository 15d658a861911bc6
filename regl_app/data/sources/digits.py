"""scikit-learn's handwritten digits: 1,797 images of 8x8, embedded, no download."""

from __future__ import annotations

import torch

from regl_app.config.sections import DataConfig
from regl_app.data.concepts import concept
from regl_app.data.images import ImageSet
from regl_app.data.resize import to_square
from regl_app.data.row_facts import DataSetRows
from regl_app.data.source import Source
from regl_app.data.subsets import split_off_test


def load_digits(config: DataConfig) -> Source:
    """Return the digits, white on black, ``(N, 1, size, size)``."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    pixels = torch.tensor(bunch.images, dtype=torch.float32)[:, None] * (255 / 16)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    facts = DataSetRows(len(labels)).all()
    images = ImageSet(to_square(pixels, config.image_size), labels, facts=facts)
    train, test = split_off_test(images, config)
    names = tuple(str(digit) for digit in range(10))
    return Source("digits", train, test, names, tuple(map(concept, names)))
