"""Which client holds which training image: flwr-datasets' partitioners on labels only."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from regl_app.config.choices import SCHEMES
from regl_app.config.sections import PartitionConfig
from regl_app.core.dotted import resolve
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.core.seeding import derive_seed, numpy_generator
from regl_app.core.types import Indices, Labels
from regl_app.data.schemes.rows import FILLER, Rows, Scheme


def partition_indices(
    labels: torch.Tensor, config: PartitionConfig, num_partitions: int, seed: int
) -> list[Indices]:
    """Split ``labels`` ``(N,)`` over clients: sorted, disjoint indices that cover all images.

    Classes that nobody drew go to the smallest clients.

    Raises:
        DataError: no client, or more classes per client than there are classes.
    """
    if num_partitions < 1:
        raise DataError(f"the number of clients must be >= 1, got {num_partitions}")
    values = labels.numpy().astype(np.int64)
    if len(values) == 0:
        return [np.empty(0, dtype=np.int64) for _ in range(num_partitions)]
    order = numpy_generator(seed, "partition-order").permutation(len(values)).astype(np.int64)
    scheme: Scheme = resolve(SCHEMES[config.scheme].implementation)
    rows = (order, values[order])
    rows, partitioner = scheme(rows, config, num_partitions, derive_seed(seed, "partition"))
    parts = _split(rows, partitioner, num_partitions)
    _adopt_orphans(parts, values)
    return [np.sort(part) for part in parts]


def _split(rows: Rows, partitioner: Any, clients: int) -> list[Indices]:
    import datasets

    indices, labels = rows
    partitioner.dataset = datasets.Dataset.from_dict({"index": indices, "label": labels})
    parts = []
    for client in range(clients):
        with warnings.catch_warnings():
            # Of classes that nobody drew, which _adopt_orphans sees to, and of its own imports.
            warnings.simplefilter("ignore")
            part_rows = partitioner.load_partition(client)
        part = np.asarray(part_rows["index"], dtype=np.int64)
        parts.append(part[part != FILLER])
    return parts


def _adopt_orphans(parts: list[Indices], labels: Labels) -> None:
    """Give images of classes that were assigned to nobody to the smallest clients, in place."""
    owned = np.zeros(len(labels), dtype=bool)
    for part in parts:
        owned[part] = True
    orphans = np.unique(labels[~owned])
    for label in orphans:
        smallest = min(range(len(parts)), key=lambda client: len(parts[client]))
        images = np.flatnonzero((labels == label) & ~owned).astype(np.int64)
        parts[smallest] = np.append(parts[smallest], images)
    if len(orphans):
        logger.warning(
            "partition: classes %s were drawn by none of the %d clients and went to the smallest "
            "ones, which hold more than partition.classes-per-client",
            orphans.tolist(),
            len(parts),
        )
