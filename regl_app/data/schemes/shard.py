"""Pieces of the label-sorted images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.data.schemes.rows import Rows, spread_fillers


def shard(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> tuple[Rows, Any]:
    """Every client gets ``shards-per-client`` pieces of the label-sorted images."""
    from flwr_datasets.partitioner import ShardPartitioner

    indices, labels = rows
    by_label = np.argsort(labels, kind="stable")
    shards = clients * config.shards_per_client
    size = math.ceil(len(labels) / shards)
    sorted_rows = (indices[by_label], labels[by_label])
    return spread_fillers(sorted_rows, size * shards - len(labels)), ShardPartitioner(
        clients,
        partition_by="label",
        num_shards_per_partition=config.shards_per_client,
        shard_size=size,
        shuffle=False,
        seed=seed,
    )
