"""Which client holds which training image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regl_app.config.choices import SCHEMES
from regl_app.config.sections import PartitionConfig
from regl_app.core.dotted import resolve
from regl_app.core.errors import DataError
from regl_app.core.seeding import derive_seed, numpy_generator
from regl_app.core.types import Indices
from regl_app.data.images import ImageSet
from regl_app.data.looks import parse_looks
from regl_app.data.row_facts import RowFacts
from regl_app.data.schemes.rows import Rows, Scheme


def partition_indices(
    labels: torch.Tensor,
    config: PartitionConfig,
    num_partitions: int,
    seed: int,
    facts: RowFacts | None = None,
) -> list[Indices]:
    """Split images with ``labels`` ``(N,)`` over clients: sorted, disjoint places.

    They cover all images, unless a file or a partitioner by name leaves some out. ``facts`` are
    what else is known of the images.

    Raises:
        DataError: no client, what the scheme says is not for these images, or it deals what it
            must not.
    """
    if num_partitions < 1:
        raise DataError(f"the number of clients must be >= 1, got {num_partitions}")
    values = labels.numpy().astype(np.int64)
    if len(values) == 0:
        return [np.empty(0, dtype=np.int64) for _ in range(num_partitions)]
    order = numpy_generator(seed, "partition-order").permutation(len(values)).astype(np.int64)
    scheme: Scheme = resolve(SCHEMES[config.scheme].implementation)
    rows = Rows(order, values[order], facts)
    parts = scheme(rows, config, num_partitions, derive_seed(seed, "partition"))
    _check_dealt(parts, config.scheme, num_partitions, len(values))
    return [np.sort(part).astype(np.int64) for part in parts]


def _check_dealt(parts: Sequence[Indices], scheme: str, clients: int, images: int) -> None:
    """Refuse an image of two clients, or twice of one: it would be trained on and tested by."""
    said = f"partition.scheme={scheme!r} must deal each of the {images} images at most once"
    if len(parts) != clients:
        raise DataError(f"{said}, to {clients} clients; it dealt to {len(parts)}")
    given = [each for each in map(np.asarray, parts) if len(each)]
    if not given:
        return
    places = np.concatenate(given)
    if places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= images:
        raise DataError(f"{said}, by whole numbers from 0; it dealt others (repair the scheme)")
    held, times = np.unique(places, return_counts=True)
    if twice := held[times > 1].tolist():
        raise DataError(
            f"{said}; it dealt {len(twice)} of them, image {twice[0]} first, more often (repair "
            "the scheme)"
        )


def check_partition(config: PartitionConfig, num_partitions: int) -> None:
    """Refuse before any image is read what would be refused whatever the images are.

    Raises:
        DataError: a file cannot be read or is for other clients, or a partitioner by name refuses
            its arguments.
    """
    choice = SCHEMES[config.scheme]
    if choice.check:
        resolve(choice.check)(config, num_partitions)


def check_images(config: PartitionConfig, images: ImageSet) -> None:
    """Refuse what is not for these training images, before anybody knows the number of clients.

    Raises:
        ConfigError: a look is for colour pictures, and these are gray.
        DataError: there is no such column.
    """
    for look in parse_looks(config.looks):
        look.check_channels(images.shape[0])
    if config.column and images.facts is not None:
        images.facts.whole.values(config.column)
