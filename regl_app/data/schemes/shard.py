"""Pieces of the label-sorted images."""

from __future__ import annotations

import math

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.types import Indices
from regl_app.data.schemes.rows import Rows, dealt, spread_fillers


def shard(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> list[Indices]:
    """Every client gets ``shards-per-client`` pieces of the label-sorted images."""
    from flwr_datasets.partitioner import ShardPartitioner

    by_label = np.argsort(rows.labels, kind="stable")
    shards = clients * config.shards_per_client
    size = math.ceil(len(rows.labels) / shards)
    in_order = Rows(rows.indices[by_label], rows.labels[by_label])
    padded = spread_fillers(in_order, size * shards - len(rows.labels))
    partitioner = ShardPartitioner(
        clients,
        partition_by="label",
        num_shards_per_partition=config.shards_per_client,
        shard_size=size,
        shuffle=False,
        seed=seed,
    )
    return dealt(padded, partitioner, clients)
