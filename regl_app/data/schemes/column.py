"""Clients as the data have them: one writer, hospital or site each."""

from __future__ import annotations

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Indices
from regl_app.data.row_facts import in_order
from regl_app.data.schemes.rows import Rows


def column(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> list[Indices]:
    """All images of one value of ``partition.column`` are at one client.

    With as many clients as values, clients are the values in their order. With fewer clients, the
    values are dealt out at random, none is split, and clients' numbers of values differ by one at
    most.

    Raises:
        DataError: there is no such column, images have no value in it, or there are more clients
            than values.
    """
    facts = rows.known(f"partition.column={config.column!r}")
    by_place = np.array(facts.names(config.column), dtype=object)
    values = in_order(set(by_place.tolist()))
    if clients > len(values):
        raise DataError(
            f"partition.column={config.column!r} has {len(values)} values, too few for {clients} "
            f"clients: no value is split over several (take at most {len(values)} clients)"
        )
    if clients == len(values):
        client_of = dict(zip(values, range(clients), strict=True))
    else:
        mixed = numpy_generator(seed, "values").permutation(len(values)).tolist()
        client_of = {values[place]: turn % clients for turn, place in enumerate(mixed)}
    owner = np.array([client_of[name] for name in by_place.tolist()], dtype=np.int64)
    return [np.flatnonzero(owner == client).astype(np.int64) for client in range(clients)]
