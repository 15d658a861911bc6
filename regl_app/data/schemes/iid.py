"""Equal parts at random."""

from __future__ import annotations

from typing import Any

from regl_app.config.sections import PartitionConfig
from regl_app.data.schemes.rows import Rows, spread_fillers


def iid(rows: Rows, _: PartitionConfig, clients: int, __: int) -> tuple[Rows, Any]:
    """Equal sizes, no skew."""
    from flwr_datasets.partitioner import IidPartitioner

    return spread_fillers(rows, clients - len(rows[1])), IidPartitioner(clients)
