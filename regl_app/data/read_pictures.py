"""From picture files to the set that classifiers see, which remembers larger originals."""

from __future__ import annotations

import numpy as np
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.types import Labels
from regl_app.data.decode import decode_images
from regl_app.data.images import ImageSet
from regl_app.data.originals import Originals, PictureFiles


def read_pictures(
    files: PictureFiles, labels: Labels, config: DataConfig, channels: int | None = None
) -> ImageSet:
    """Return ``files`` as images of ``data.image-size``, made squares as ``data.fit`` says.

    Where any picture is larger, the set knows them all by ``originals``.

    Args:
        files: N encoded pictures.
        labels: their classes, ``(N,)``.
        config: the run's data keys.
        channels: 1 or 3, to have that many; None: 1 if every picture is gray, else 3.

    Raises:
        DataError: names the files that cannot be decoded.
    """
    size, rule = config.image_size, config.fit
    decoded = decode_images(map(files.open, range(len(files))), size, channels, rule)
    originals = None
    if len(files) and decoded.sides.max() > size:
        everything = np.arange(len(files), dtype=np.int64)
        held = decoded.images.shape[1]
        originals = Originals(files, everything, decoded.sides, held, rule)
    return ImageSet(decoded.images, torch.from_numpy(labels), originals)
