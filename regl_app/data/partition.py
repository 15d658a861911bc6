"""Which client holds which training image: flwr-datasets' partitioners on labels only.

The partitioners refuse more partitions than rows or than images of a class, deal rows in the
order of the file, and drop the rows that don't fill a shard. So they work here on rows in random
order, with *filler* rows (index -1) added where they ask for more rows than there are; fillers
are removed from the result. Hence any number of clients works, no image is lost, and some
clients may be empty.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.core.seeding import derive_seed, numpy_generator
from regl_app.core.types import Indices, Labels

_FILLER = -1

Rows = tuple[Indices, Labels]


def partition_indices(
    labels: torch.Tensor, config: PartitionConfig, num_partitions: int, seed: int
) -> list[Indices]:
    """Split ``labels`` ``(N,)`` over clients: sorted, disjoint indices that cover all images.

    * ``iid``: equal sizes, no skew.
    * ``dirichlet``: each class's shares over clients are drawn from Dir(beta).
    * ``pathological``: every client holds ``classes-per-client`` classes. Classes that no client
      drew (fewer clients than classes) go to the smallest clients, which then hold more.
    * ``shard``: every client gets ``shards-per-client`` pieces of the label-sorted images.

    Raises:
        DataError: no client, or more classes per client than there are classes.
    """
    if num_partitions < 1:
        raise DataError(f"the number of clients must be >= 1, got {num_partitions}")
    values = labels.numpy().astype(np.int64)
    if len(values) == 0:
        return [np.empty(0, dtype=np.int64) for _ in range(num_partitions)]
    order = numpy_generator(seed, "partition-order").permutation(len(values)).astype(np.int64)
    rows, partitioner = _prepare(
        (order, values[order]), config, num_partitions, derive_seed(seed, "partition")
    )
    parts = _split(rows, partitioner, num_partitions)
    _adopt_orphans(parts, values)
    return [np.sort(part) for part in parts]


def _prepare(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> tuple[Rows, Any]:
    """Return the rows with the fillers the scheme needs, and its partitioner."""
    from flwr_datasets import partitioner as own

    indices, labels = rows
    match config.scheme:
        case "iid":
            return _spread_fillers(rows, clients - len(labels)), own.IidPartitioner(clients)
        case "dirichlet":
            # Fillers are a class of their own, drawn last: the real classes' shares stay.
            fillers = max(clients - len(labels), 0)
            padded = (
                np.append(indices, np.full(fillers, _FILLER)),
                np.append(labels, np.full(fillers, labels.max() + 1)),
            )
            return padded, own.DirichletPartitioner(
                clients,
                partition_by="label",
                alpha=float(config.beta),
                min_partition_size=0,
                self_balancing=False,
                shuffle=False,
                seed=seed,
            )
        case "pathological":
            classes = np.unique(labels)
            if config.classes_per_client > len(classes):
                raise DataError(
                    f"partition.classes-per-client must be <= {len(classes)}, the classes in the "
                    f"training data, got {config.classes_per_client}"
                )
            short = [np.full(max(clients - int((labels == c).sum()), 0), c) for c in classes]
            fillers = sum(len(part) for part in short)
            padded = (
                np.append(indices, np.full(fillers, _FILLER)),
                np.concatenate([labels, *short]),
            )
            return padded, own.PathologicalPartitioner(
                clients,
                partition_by="label",
                num_classes_per_partition=config.classes_per_client,
                class_assignment_mode="first-deterministic",
                shuffle=False,
                seed=seed,
            )
        case "shard":
            by_label = np.argsort(labels, kind="stable")
            shards = clients * config.shards_per_client
            size = math.ceil(len(labels) / shards)
            sorted_rows = (indices[by_label], labels[by_label])
            return _spread_fillers(sorted_rows, size * shards - len(labels)), own.ShardPartitioner(
                clients,
                partition_by="label",
                num_shards_per_partition=config.shards_per_client,
                shard_size=size,
                shuffle=False,
                seed=seed,
            )


def _spread_fillers(rows: Rows, count: int) -> Rows:
    """Insert ``count`` fillers at even distances, each with the label of its neighbour."""
    if count <= 0:
        return rows
    indices, labels = rows
    places = np.linspace(0, len(labels), count, endpoint=False).astype(np.int64)
    return np.insert(indices, places, _FILLER), np.insert(labels, places, labels[places])


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
        parts.append(part[part != _FILLER])
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
