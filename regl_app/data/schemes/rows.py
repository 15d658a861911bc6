"""What a scheme is given, and how flwr-datasets' partitioners are used by some.

A scheme deals training images, which it gets in a random order, to clients. Those that borrow a
partitioner of flwr-datasets give it *filler* rows (index -1) where it asks for more rows than
there are: the partitioners refuse more partitions than rows or than images of a class, and drop the
rows that don't fill a shard. Fillers are removed from the result. Hence any number of clients
works, no image is lost, and some clients may be empty.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices, Labels
from regl_app.data.row_facts import RowFacts

FILLER = -1


@dataclass(frozen=True, eq=False)
class Rows:
    """Training images in a random order: their places in the training set, and their labels.

    ``facts``, by place in the training set, is None where the source tells nothing but labels.
    """

    indices: Indices
    labels: Labels
    facts: RowFacts | None = None

    def known(self, what: str) -> RowFacts:
        """Return the facts.

        Raises:
            DataError: there are none; says that ``what`` needs them.
        """
        if self.facts is None:
            raise DataError(f"{what} needs more of the images than their labels")
        return self.facts


Scheme = Callable[[Rows, PartitionConfig, int, int], list[Indices]]
"""Of rows, keys, clients and seed: for each client the places of its images, in any order."""


def spread_fillers(rows: Rows, count: int) -> Rows:
    """Insert ``count`` fillers at even distances, each with the label of its neighbour."""
    if count <= 0:
        return rows
    places = np.linspace(0, len(rows.labels), count, endpoint=False).astype(np.int64)
    return Rows(
        np.insert(rows.indices, places, FILLER),
        np.insert(rows.labels, places, rows.labels[places]),
    )


def dealt(rows: Rows, partitioner: Any, clients: int) -> list[Indices]:
    """Return what ``partitioner`` gives each client of ``rows``, fillers removed."""
    import datasets

    partitioner.dataset = datasets.Dataset.from_dict({"index": rows.indices, "label": rows.labels})
    parts = []
    for client in range(clients):
        with warnings.catch_warnings():
            # Of classes that nobody drew, which 'pathological' sees to, and of its own imports.
            warnings.simplefilter("ignore")
            held = partitioner.load_partition(client)
        part = np.asarray(held["index"], dtype=np.int64)
        parts.append(part[part != FILLER])
    return parts
