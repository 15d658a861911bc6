"""Which clients are known to have no images to train on: a method's mean is not over them.

A client tells it with its label counts, where these are shared, or when it is first asked to train.
"""

from __future__ import annotations

from collections.abc import Mapping

from regl_app.core.types import Counts
from regl_app.rounds.exchange import RoundResult


def without_images(counts: Mapping[int, Counts | None]) -> frozenset[int]:
    """Return whose ``counts`` ``(C,)`` say that they have none; None says nothing."""
    return frozenset(key for key, row in counts.items() if row is not None and not row.any())


def still_without_images(
    known: frozenset[int], results: Mapping[int, RoundResult]
) -> frozenset[int]:
    """Return who has none after a round's ``results``, given who was ``known`` to have none."""
    return (known - results.keys()) | {k for k, each in results.items() if each.num_examples == 0}
