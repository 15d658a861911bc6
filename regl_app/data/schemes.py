"""Partitions of training images: what rows flwr-datasets' partitioners are given.

They refuse more partitions than rows or than images of a class, deal rows in the order of the
file, and drop the rows that don't fill a shard. So they work here on rows in random order, with
*filler* rows (index -1) added where they ask for more rows than there are; fillers are removed
from the result. Hence any number of clients works, no image is lost, and some clients may be empty.

A scheme is a function here and a line of ``config.choices.SCHEMES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices, Labels

FILLER = -1

Rows = tuple[Indices, Labels]
Scheme = Callable[[Rows, PartitionConfig, int, int], tuple[Rows, Any]]
"""Of rows, keys, clients and seed: the rows with fillers, and their partitioner."""


def iid(rows: Rows, _: PartitionConfig, clients: int, __: int) -> tuple[Rows, Any]:
    """Equal sizes, no skew."""
    from flwr_datasets.partitioner import IidPartitioner

    return _spread_fillers(rows, clients - len(rows[1])), IidPartitioner(clients)


def dirichlet(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> tuple[Rows, Any]:
    """Each class's shares over clients are drawn from Dir(beta)."""
    from flwr_datasets.partitioner import DirichletPartitioner

    indices, labels = rows
    # Fillers are a class of their own, drawn last: the real classes' shares stay.
    fillers = max(clients - len(labels), 0)
    padded = (
        np.append(indices, np.full(fillers, FILLER)),
        np.append(labels, np.full(fillers, labels.max() + 1)),
    )
    return padded, DirichletPartitioner(
        clients,
        partition_by="label",
        alpha=float(config.beta),
        min_partition_size=0,
        self_balancing=False,
        shuffle=False,
        seed=seed,
    )


def pathological(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> tuple[Rows, Any]:
    """Every client holds ``classes-per-client`` classes.

    Classes that no client drew (fewer clients than classes) go to the smallest clients, which then
    hold more.

    Raises:
        DataError: more classes per client than there are.
    """
    from flwr_datasets.partitioner import PathologicalPartitioner

    indices, labels = rows
    classes = np.unique(labels)
    if config.classes_per_client > len(classes):
        raise DataError(
            f"partition.classes-per-client must be <= {len(classes)}, the classes in the "
            f"training data, got {config.classes_per_client}"
        )
    short = [np.full(max(clients - int((labels == c).sum()), 0), c) for c in classes]
    fillers = sum(len(part) for part in short)
    padded = (
        np.append(indices, np.full(fillers, FILLER)),
        np.concatenate([labels, *short]),
    )
    return padded, PathologicalPartitioner(
        clients,
        partition_by="label",
        num_classes_per_partition=config.classes_per_client,
        class_assignment_mode="first-deterministic",
        shuffle=False,
        seed=seed,
    )


def shard(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> tuple[Rows, Any]:
    """Every client gets ``shards-per-client`` pieces of the label-sorted images."""
    from flwr_datasets.partitioner import ShardPartitioner

    indices, labels = rows
    by_label = np.argsort(labels, kind="stable")
    shards = clients * config.shards_per_client
    size = math.ceil(len(labels) / shards)
    sorted_rows = (indices[by_label], labels[by_label])
    return _spread_fillers(sorted_rows, size * shards - len(labels)), ShardPartitioner(
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
    return np.insert(indices, places, FILLER), np.insert(labels, places, labels[places])
