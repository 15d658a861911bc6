"""The server's measurements and choices in a round that need no messages."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from regl_app.config import RunConfig
from regl_app.core.seeding import numpy_generator
from regl_app.data.federation import Federation
from regl_app.learning.evaluation.metrics import Metrics, evaluate
from regl_app.learning.models.classifier import Classifier


def sampled_clients(config: RunConfig, number: int, count: int) -> Sequence[int]:
    """Return which of ``count`` clients take part in round ``number``, as ascending places.

    ``server.fraction`` of them, at least ``server.min-nodes``, drawn from the run's seed. All of
    them for ``central``: one of them has all the data.
    """
    wanted = max(config.server.min_nodes, round(config.server.fraction * count))
    if wanted >= count or config.central:
        return range(count)
    rng = numpy_generator(config.seed, "clients", number)
    return sorted(rng.permutation(count)[:wanted].tolist())


def evaluate_global(
    model: Classifier, federation: Federation, device: torch.device
) -> tuple[Metrics | None, Metrics | None]:
    """Return the metrics on the test set, if the server has one, and on its long tail, if any."""
    if len(federation.source.test) == 0:
        return None, None
    classes, tail = federation.num_classes, federation.tail_test
    whole = evaluate(model, federation.source.test, classes, device)
    return whole, None if tail is None else evaluate(model, tail, classes, device)


def personalized_due(config: RunConfig, number: int) -> bool:
    """Return whether clients evaluate the global model after round ``number``."""
    every = config.server.personalized_every
    if config.validation.used:
        return True
    return number == config.rounds or (every > 0 and number % every == 0)
