"""Equal parts at random."""

from __future__ import annotations

from regl_app.config.sections import PartitionConfig
from regl_app.core.types import Indices
from regl_app.data.schemes.rows import Rows, dealt, spread_fillers


def iid(rows: Rows, _: PartitionConfig, clients: int, __: int) -> list[Indices]:
    """Equal sizes, no skew."""
    from flwr_datasets.partitioner import IidPartitioner

    padded = spread_fillers(rows, clients - len(rows.labels))
    return dealt(padded, IidPartitioner(clients), clients)
