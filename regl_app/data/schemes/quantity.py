"""Size skew alone: some clients have many images, some few, all of the same mix."""

from __future__ import annotations

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Indices
from regl_app.data.schemes.rows import Rows
from regl_app.data.schemes.smallest import drawn_until


def quantity(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> list[Indices]:
    """Clients' shares of all images are drawn from Dir(beta), images at random.

    Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022, 'quantity skew'. It is drawn
    again until each client has ``min-size`` images (10 there, 0 here unless set).

    Raises:
        DataError: ``min-size`` cannot be had, or is not drawn in a bearable number of tries.
    """

    def draw(attempt: int) -> list[Indices]:
        rng = numpy_generator(seed, "sizes", attempt)
        shares = rng.dirichlet(np.full(clients, config.beta))
        cuts = (np.cumsum(shares) * len(rows.indices)).astype(np.int64)[:-1]
        return np.split(rows.indices, cuts)

    return drawn_until(draw, config, clients, len(rows.indices))
