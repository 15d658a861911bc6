"""A partition that is given: who holds which row stands in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.log import logger
from regl_app.core.types import Indices
from regl_app.data.partition_file import check_clients, read_partition
from regl_app.data.schemes.rows import Rows


def file(rows: Rows, config: PartitionConfig, clients: int, _: int) -> list[Indices]:
    """Clients hold what ``partition.file`` says, of the rows that the run trains on.

    Rows that the run leaves out (``data.max-train``, a long tail, the public part, a test set that
    is split off) are passed over; images that the file gives to nobody are nobody's.

    Raises:
        DataError: the file cannot be read or is not for this data set or number of clients.
    """
    facts = rows.known("partition.file")
    owner = read_partition(Path(config.file).expanduser(), facts.whole, clients)
    owners = np.array([owner.get(int(row), -1) for row in facts.places], dtype=np.int64)
    parts = [np.flatnonzero(owners == client).astype(np.int64) for client in range(clients)]
    used = sum(map(len, parts))
    if used < len(owners):
        logger.warning(
            "partition: %d of %d training images are given to nobody by partition.file=%s",
            len(owners) - used,
            len(owners),
            config.file,
        )
    if used < len(owner):
        logger.info(
            "partition: %d rows of partition.file=%s are not trained on in this run",
            len(owner) - used,
            config.file,
        )
    return parts


def check(config: PartitionConfig, clients: int) -> None:
    """Read ``partition.file`` and compare the number of its clients.

    Raises:
        DataError: it cannot be read, or is for others than ``clients`` clients.
    """
    check_clients(Path(config.file).expanduser(), clients)
