"""How well a client's labels, real and synthetic, fit the whole federation's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regl_app.core.types import Counts


@dataclass(frozen=True)
class LabelFit:
    """Distances of one client's label distribution to the global one, each in [0, 1].

    ``js`` is the Jensen-Shannon distance (the root of the divergence, in bits), ``tv`` the total
    variation; ``before`` of the real images alone, ``after`` with the synthetic ones.
    ``precision`` is the share of synthetic images in classes that the client truly lacks, None
    without any.
    """

    js_before: float
    js_after: float
    tv_before: float
    tv_after: float
    precision: float | None


def total_variation(one: Counts, other: Counts) -> float:
    """Return ``0.5 * sum |p - q|`` of two histograms ``(C,)`` that are not empty."""
    return min(float(0.5 * np.abs(one / one.sum() - other / other.sum()).sum()), 1.0)


def jensen_shannon(one: Counts, other: Counts) -> float:
    """Return the Jensen-Shannon distance, base 2, of two histograms ``(C,)`` not empty."""
    from scipy.spatial.distance import jensenshannon

    return min(float(jensenshannon(one, other, base=2)), 1.0)  # rounding


def label_fits(
    real: Sequence[Counts | None], synthetic: Sequence[Counts | None], overall: Counts
) -> list[LabelFit | None]:
    """Return every client's fit to the labels of all, None for a client unknown or empty.

    Only a simulation, or a federation that shares its labels, knows these.

    Args:
        real: training images per client and class, K x C.
        synthetic: the same of the images they add in this round.
        overall: training images of all clients, ``(C,)``.
    """
    fits: list[LabelFit | None] = []
    for held, added in zip(real, synthetic, strict=True):
        if held is None or added is None or held.sum() == 0:
            fits.append(None)
            continue
        fits.append(
            LabelFit(
                jensen_shannon(held, overall),
                jensen_shannon(held + added, overall),
                total_variation(held, overall),
                total_variation(held + added, overall),
                precision(added, held, overall),
            )
        )
    return fits


def precision(chosen: Counts, held: Counts, overall: Counts) -> float | None:
    """Return how often a chosen image is of a class that its client truly lacks, in [0, 1].

    A client lacks a class that makes up less of its images than of all clients'. Only a simulation
    knows; None if nothing was chosen.

    Args:
        chosen: synthetic images per class, ``(C,)``.
        held: the client's real images per class, ``(C,)``.
        overall: all clients' real images per class, ``(C,)``.
    """
    if chosen.sum() == 0:
        return None
    lacks = held * max(1, int(overall.sum())) < overall * max(1, int(held.sum()))
    return float(chosen[lacks].sum() / chosen.sum())
