"""A look per client: its images, training and test, and the server's test set as their mixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from regl_app.config.sections import PartitionConfig
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Indices
from regl_app.data.images import ImageSet
from regl_app.data.looked import Looked, LookedPictures
from regl_app.data.looks import Look, parse_looks
from regl_app.data.source import Source


def with_looks(
    source: Source, parts: Sequence[Indices], config: PartitionConfig, seed: int
) -> Source:
    """Return ``source`` as the clients see it: client k's images in look ``k mod n`` of n.

    The larger originals that a generator is tuned on are in the same looks. Each image of the test
    set is in the look of a client drawn by the clients' numbers of images: the server measures the
    mixture that the clients hold together, ``sum_k n_k / N P_k``.

    Args:
        source: the data set, plain.
        parts: the places of each client's images in ``source.train``, disjoint.
        config: its ``looks`` say which; none of them: ``source`` as it is.
        seed: of the draw for the test set.

    Raises:
        ConfigError: a look is unknown, or not for images of these channels.
    """
    looks = parse_looks(config.looks)
    if not looks:
        return source
    for look in looks:
        look.check_channels(source.train.shape[0])
    of_train = np.full(len(source.train), -1, dtype=np.int64)
    sizes = np.zeros(len(looks))
    for client, part in enumerate(parts):
        of_train[part] = client % len(looks)
        sizes[client % len(looks)] += len(part)
    rng = numpy_generator(seed, "test-looks")
    shares = sizes / sizes.sum() if sizes.sum() else None
    of_test = rng.choice(len(looks), size=len(source.test), p=shares).astype(np.int64)
    train = _seen(source.train, looks, of_train)
    return dataclasses.replace(source, train=train, test=_seen(source.test, looks, of_test))


def _seen(images: ImageSet, looks: tuple[Look, ...], chosen: Indices) -> ImageSet:
    looked = Looked(looks, chosen, images.shape[-1])
    # What lies in a file stays there, plain: a tensor of it all would be every process's own.
    pixels = (
        looked.of(images.pixels)
        if isinstance(images.pixels, torch.Tensor)
        else LookedPictures(images.pixels, looked)
    )
    originals = images.originals
    if originals is not None:
        of_file = np.full(len(originals.files), -1, dtype=np.int64)
        of_file[originals.places] = chosen
        originals = dataclasses.replace(
            originals, looked=dataclasses.replace(looked, of_file=of_file)
        )
    return dataclasses.replace(images, pixels=pixels, originals=originals)
