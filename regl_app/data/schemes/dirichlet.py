"""Shares of each class by a Dirichlet distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.data.schemes.rows import FILLER, Rows


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
