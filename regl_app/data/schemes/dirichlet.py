"""Shares of each class by a Dirichlet distribution, if asked until nobody has too few images."""

from __future__ import annotations

import numpy as np

from regl_app.config.sections import PartitionConfig
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Floats, Indices
from regl_app.data.schemes.rows import FILLER, Rows, dealt
from regl_app.data.schemes.smallest import drawn_until


def dirichlet(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> list[Indices]:
    """Each class's shares over clients are drawn from Dir(beta).

    With ``min-size`` as NIID-Bench does it (Li et al., "Federated Learning on Non-IID Data Silos",
    ICDE 2022, 'noniid-labeldir'): a client that has its even share of all images gets nothing of
    the classes after, and all is drawn again until each client has ``min-size`` images.

    Raises:
        DataError: ``min-size`` cannot be had, or is not drawn in a bearable number of tries.
    """
    if config.min_size:
        return drawn_until(
            lambda attempt: _bounded(rows, config.beta, clients, derived(seed, attempt)),
            config,
            clients,
            len(rows.labels),
        )
    from flwr_datasets.partitioner import DirichletPartitioner

    # Fillers are a class of their own, drawn last: the real classes' shares stay.
    fillers = max(clients - len(rows.labels), 0)
    padded = Rows(
        np.append(rows.indices, np.full(fillers, FILLER)),
        np.append(rows.labels, np.full(fillers, rows.labels.max() + 1)),
    )
    partitioner = DirichletPartitioner(
        clients,
        partition_by="label",
        alpha=float(config.beta),
        min_partition_size=0,
        self_balancing=False,
        shuffle=False,
        seed=seed,
    )
    return dealt(padded, partitioner, clients)


def derived(seed: int, attempt: int) -> np.random.Generator:
    """Return the random numbers of one try."""
    return numpy_generator(seed, "shares", attempt)


def _bounded(rows: Rows, beta: float, clients: int, rng: np.random.Generator) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    sizes = np.zeros(clients, dtype=np.int64)
    even = len(rows.labels) / clients
    for label in np.unique(rows.labels):
        images = rows.indices[rows.labels == label]
        open_ = sizes < even
        shares: Floats = rng.dirichlet(np.full(clients, beta)) * open_
        # A small beta can give all of a class to clients that are full.
        shares = shares / shares.sum() if shares.sum() > 0 else open_ / open_.sum()
        cuts = (np.cumsum(shares) * len(images)).astype(np.int64)[:-1]
        for client, part in enumerate(np.split(images, cuts)):
            parts[client].append(part)
            sizes[client] += len(part)
    return [np.concatenate(each) for each in parts]
