"""What clients are taken to hold, by ``teaching.say``: a file here, a line of config/choices.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from regl_app.config import RunConfig
from regl_app.config.choices import SAYS
from regl_app.core.dotted import resolve
from regl_app.core.types import Floats, Weights
from regl_app.rounds.exchange import RoundResult

Holdings = Callable[[Weights, Sequence[RoundResult], int], Floats]


def holdings(
    config: RunConfig, start: Weights, results: Mapping[int, RoundResult], num_classes: int
) -> Floats:
    """Return what each client is taken to hold of each class, ``(K, C)`` >= 0, in any unit.

    K counts the ``results`` with a model, in their order.

    Args:
        config: the run.
        start: the global model that the round began with.
        results: by partition.
        num_classes: C.
    """
    uploads = [each for each in results.values() if each.weights is not None]
    find = cast(Holdings, resolve(SAYS[config.say].implementation))
    return find(start, uploads, num_classes)
