"""A few classes per client."""

from __future__ import annotations

from typing import Any

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.data.schemes.rows import FILLER, Rows


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
