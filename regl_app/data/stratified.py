"""Drawing a number of images so that each class keeps its share."""

from __future__ import annotations

import numpy as np

from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Counts, Indices, Labels


def stratified_counts(
    available: Counts, total: int, limits: Counts, rng: np.random.Generator
) -> Counts:
    """Split ``total`` over classes in proportion to ``available`` by largest remainder.

    No class gets more than its ``limits`` (``(C,)``); when those sum to less than ``total``, each
    class gets its limit. Ties are broken by ``rng``. Returns ``(C,)`` int64.
    """
    total = min(total, int(limits.sum()))
    chosen: Counts = np.zeros_like(available)
    if total == 0:
        return chosen
    shares = available * (total / available.sum())
    chosen = np.minimum(np.floor(shares).astype(np.int64), limits)
    order = np.lexsort((rng.random(len(shares)), chosen - shares))
    while (missing := total - int(chosen.sum())) > 0:
        open_classes = order[chosen[order] < limits[order]]
        chosen[open_classes[:missing]] += 1
    return chosen


def stratified_sample(
    labels: Labels,
    total: int,
    rng: np.random.Generator,
    *,
    leave_one: bool = False,
    keep_one: bool = False,
) -> Indices:
    """Return ``total`` sorted indices into ``labels`` ``(N,)`` with the classes' proportions.

    With ``leave_one`` at least one image of every class stays behind, even if fewer than
    ``total`` images can then be drawn. With ``keep_one`` at least one of every class is drawn,
    where ``total`` has room for that.
    """
    if len(labels) == 0:
        return np.empty(0, dtype=np.int64)
    available = np.bincount(labels).astype(np.int64)
    limits = np.maximum(available - 1, 0) if leave_one else available
    wanted = stratified_counts(available, total, limits, rng)
    first = np.minimum(available, 1)
    if keep_one and (wanted < first).any() and first.sum() <= total:
        others = available - first
        wanted = first + stratified_counts(others, total - int(first.sum()), others, rng)
    parts = [
        rng.permutation(np.flatnonzero(labels == label))[: wanted[label]]
        for label in np.flatnonzero(wanted)
    ]
    if not parts:
        return np.empty(0, dtype=np.int64)
    return np.sort(np.concatenate(parts)).astype(np.int64)


def validation_places(labels: Labels, fraction: float, seed: int, partition_id: int) -> Indices:
    """Return which of a client's training images are held out to choose by, sorted.

    ``fraction`` of ``labels`` ``(N,)`` by class, but a class's last image is trained on.
    """
    rng = numpy_generator(seed, "client-validation", partition_id)
    return stratified_sample(labels, round(fraction * len(labels)), rng, leave_one=True)
