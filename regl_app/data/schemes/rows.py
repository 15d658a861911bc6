"""Partitions of training images: what rows flwr-datasets' partitioners are given.

They refuse more partitions than rows or than images of a class, deal rows in the order of the
file, and drop the rows that don't fill a shard. So they work here on rows in random order, with
*filler* rows (index -1) added where they ask for more rows than there are; fillers are removed
from the result. Hence any number of clients works, no image is lost, and some clients may be empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.types import Indices, Labels

FILLER = -1

Rows = tuple[Indices, Labels]
Scheme = Callable[[Rows, PartitionConfig, int, int], tuple[Rows, Any]]
"""Of rows, keys, clients and seed: the rows with fillers, and their partitioner."""


def spread_fillers(rows: Rows, count: int) -> Rows:
    """Insert ``count`` fillers at even distances, each with the label of its neighbour."""
    if count <= 0:
        return rows
    indices, labels = rows
    places = np.linspace(0, len(labels), count, endpoint=False).astype(np.int64)
    return np.insert(indices, places, FILLER), np.insert(labels, places, labels[places])
