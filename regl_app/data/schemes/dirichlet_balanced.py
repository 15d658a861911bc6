"""Label skew alone: every client has as many images, of classes by its own Dirichlet draw."""

from __future__ import annotations

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Floats, Indices
from regl_app.data.schemes.rows import Rows


def dirichlet_balanced(
    rows: Rows, config: PartitionConfig, clients: int, seed: int
) -> list[Indices]:
    """Equal sizes; a client's images are drawn by ``p_k ~ Dir(beta)`` over classes.

    As FedDyn's experiments have it (Acar et al., "Federated Learning Based on Dynamic
    Regularization", ICLR 2021): clients take turns in random order, each draws a class from
    ``p_k`` among those that are left, and takes one image of it. Sizes differ by one at most.
    """
    rng = numpy_generator(seed, "balanced")
    classes = np.unique(rows.labels)
    stock = [rows.indices[rows.labels == label] for label in classes]
    left = np.array([len(images) for images in stock], dtype=np.int64)
    priors: Floats = rng.dirichlet(np.full(len(classes), config.beta), size=clients)
    base, more = divmod(len(rows.labels), clients)
    sizes = np.full(clients, base) + (np.arange(clients) < more)
    turns = rng.permutation(np.repeat(np.arange(clients), sizes))
    parts: list[list[int]] = [[] for _ in range(clients)]
    for client, ticket in zip(turns.tolist(), rng.random(len(turns)).tolist(), strict=True):
        weights = priors[client] * (left > 0)
        total = weights.sum()
        if total <= 0:  # all that this client would take is gone
            weights, total = left.astype(np.float64), float(left.sum())
        chosen = int(np.searchsorted(np.cumsum(weights), ticket * total, side="right"))
        chosen = min(chosen, int(np.flatnonzero(weights)[-1]))  # rounding at the very end
        left[chosen] -= 1
        parts[client].append(int(stock[chosen][left[chosen]]))
    return [np.array(part, dtype=np.int64) for part in parts]
