"""A few classes per client."""

from __future__ import annotations

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.core.types import Indices
from regl_app.data.schemes.rows import FILLER, Rows, dealt


def pathological(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> list[Indices]:
    """Every client holds ``classes-per-client`` classes.

    Classes that no client drew (fewer clients than classes) go to the smallest clients, which then
    hold more.

    Raises:
        DataError: more classes per client than there are.
    """
    from flwr_datasets.partitioner import PathologicalPartitioner

    labels = rows.labels
    classes = np.unique(labels)
    if config.classes_per_client > len(classes):
        raise DataError(
            f"partition.classes-per-client must be <= {len(classes)}, the classes in the "
            f"training data, got {config.classes_per_client}"
        )
    short = [np.full(max(clients - int((labels == c).sum()), 0), c) for c in classes]
    fillers = sum(len(part) for part in short)
    padded = Rows(
        np.append(rows.indices, np.full(fillers, FILLER)), np.concatenate([labels, *short])
    )
    partitioner = PathologicalPartitioner(
        clients,
        partition_by="label",
        num_classes_per_partition=config.classes_per_client,
        class_assignment_mode="first-deterministic",
        shuffle=False,
        seed=seed,
    )
    parts = dealt(padded, partitioner, clients)
    _adopt_orphans(parts, rows)
    return parts


def _adopt_orphans(parts: list[Indices], rows: Rows) -> None:
    """Give images of classes that were assigned to nobody to the smallest clients, in place."""
    owned = np.isin(rows.indices, np.concatenate(parts))
    orphans = np.unique(rows.labels[~owned])
    for label in orphans:
        smallest = min(range(len(parts)), key=lambda client: len(parts[client]))
        images = rows.indices[(rows.labels == label) & ~owned]
        parts[smallest] = np.append(parts[smallest], images)
    if len(orphans):
        logger.warning(
            "partition: classes %s were drawn by none of the %d clients and went to the smallest "
            "ones, which hold more than partition.classes-per-client",
            orphans.tolist(),
            len(parts),
        )
