"""Drawing a partition again and again until no client has too few images."""

from __future__ import annotations

from collections.abc import Callable

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices

_MOST_TRIES = 2000


def drawn_until(
    draw: Callable[[int], list[Indices]], config: PartitionConfig, clients: int, images: int
) -> list[Indices]:
    """Return the first of ``draw(0)``, ``draw(1)``, ... of which each part has ``min-size`` images.

    Raises:
        DataError: there are too few ``images`` for that, or no try had it.
    """
    wanted = config.min_size
    if wanted * clients > images:
        raise DataError(
            f"partition.min-size={wanted} for {clients} clients needs {wanted * clients} training "
            f"images, there are {images} (at most {images // clients})"
        )
    best = 0
    for attempt in range(_MOST_TRIES):
        parts = draw(attempt)
        smallest = min(map(len, parts))
        if smallest >= wanted:
            return parts
        best = max(best, smallest)
    raise DataError(
        f"partition.min-size={wanted} was not drawn for all of {clients} clients in {_MOST_TRIES} "
        f"tries with partition.beta={config.beta:g}: the best had {best} (lower it, raise "
        "partition.beta, or take fewer clients)"
    )
