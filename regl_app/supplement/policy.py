"""How many synthetic images of which class: pure functions from counts or discrepancy to quotas.

Choose ``balance`` (ReGL) where the global label distribution is known to be even,
``discrepancy`` (FedDPD) where it is unknown, ``equal`` as the budget-only control.
All quotas are int64 ``(C,)``, >= 0, and sum exactly to what was asked for as long as there is room.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regl_app.core.types import Counts, Floats, Indices


def allocate(
    weights: npt.ArrayLike, total: int, room: Counts, ties: Counts | None = None
) -> Counts:
    """Split ``total`` over classes in proportion to ``weights``, by largest remainder.

    No class gets more than its ``room``; what does not fit goes to the others, so the result
    sums to ``min(total, room.sum())``. Classes of weight zero are used only when all classes of
    positive weight are full. Ties go to the lower class. Where one of the tied would get nothing
    by that, they go by ``ties`` instead, so that it is not the same classes for everybody.

    Args:
        weights: non-negative finite importance per class, ``(C,)``.
        total: images to give out, >= 0.
        room: most images per class, ``(C,)``, >= 0.
        ties: a permutation of the classes, ``(C,)``: who has the lowest number goes first; None:
            always the lower class.
    """
    share = np.asarray(weights, dtype=np.float64)
    if share.shape != room.shape:
        raise ValueError(f"weights {share.shape} and room {room.shape} differ in shape")
    if not np.isfinite(share).all() or (share < 0).any() or total < 0 or (room < 0).any():
        raise ValueError("weights must be finite and >= 0, total and room >= 0")
    quotas = np.zeros_like(room)
    rest = min(total, int(room.sum()))
    while rest > 0:
        open_room = room - quotas
        active = (open_room > 0) & (share > 0)
        if not active.any():
            active = open_room > 0
            share = active.astype(np.float64)
        # Scaled by the largest first: tiny weights must not underflow in the division.
        scaled = np.where(active, share, 0.0) / share[active].max()
        exact = rest * scaled / scaled.sum()
        part = np.minimum(np.floor(exact).astype(np.int64), open_room)
        if part.sum() == 0 or (part < open_room)[active].all():
            short = rest - int(part.sum())
            remainder = np.where(active & (part < open_room), exact - part, -1.0)
            for index in _largest(remainder, short, quotas + part, ties):
                if remainder[index] >= 0:
                    part[index] += 1
        quotas += part
        rest -= int(part.sum())
    return quotas


def _largest(remainder: Floats, most: int, given: Counts, ties: Counts | None) -> Indices:
    """Return the ``most`` classes of the largest ``remainder``; ``given`` is what each has."""
    ordered: Indices = np.argsort(-remainder, kind="stable")
    if ties is None or not 0 < most < len(ordered):
        return ordered[:most]
    tied = remainder[ordered[most:]] == remainder[ordered[most - 1]]
    if (given[ordered[most:]][tied] == 0).any():
        ordered = np.lexsort((ties, -remainder))
    return ordered[:most]


def balance_quotas(counts: Counts, target: int, cap: int) -> Counts:
    """Return what tops every class up to ``target`` (0: the client's largest class), ReGL's rule.

    No class gets more than ``cap``. A client without images gets nothing: it has no largest class.
    """
    goal = target if target > 0 else int(counts.max(initial=0))
    return np.clip(goal - counts, 0, cap).astype(np.int64)


def equal_quotas(num_classes: int, total: int, cap: int, ties: Counts | None = None) -> Counts:
    """Return ``total`` images spread evenly over all classes (FedGC's budget)."""
    return allocate(np.ones(num_classes), total, np.full(num_classes, cap, dtype=np.int64), ties)


def bootstrap_quotas(counts: Counts, total: int, cap: int, ties: Counts | None = None) -> Counts:
    """Return round 1 of ``discrepancy``, before any model was compared: ``total`` by deficit.

    The weights are what ``balance`` would add, so missing classes come first.
    """
    deficit = int(counts.max(initial=0)) - counts
    return allocate(deficit, total, np.full(len(counts), cap, dtype=np.int64), ties)


def discrepancy_quotas(
    last_quotas: Counts,
    discrepancy: npt.ArrayLike,
    total: int,
    *,
    gamma: float,
    momentum: float,
    cap: int,
    ties: Counts | None = None,
) -> Counts:
    """Return ``total`` images, moved towards the classes where the client lags behind.

    FedDPD's per-class share is ``q[c] ∝ relu(d[c])^gamma``. A class that the last supplement
    taught well shows no discrepancy any more; were it dropped for that, the client would forget
    it. So a part of the last round's mix is kept::

        share = momentum * last / sum(last) + (1 - momentum) * relu(d)^gamma / sum(relu(d)^gamma)

    Where nothing is lacking (all d <= 0) the last mix stays; with no mix either, all classes get
    the same, so that the planned total is always the realised one.

    Args:
        last_quotas: those of the round that was measured, ``(C,)``.
        discrepancy: d, ``(C,)``.
        total: B_t, the images of the next round.
        gamma: sharpness; 0 treats all lacking classes alike.
        momentum: part of the last mix that stays, in [0, 1].
        cap: most synthetic images per class.
        ties: as for ``allocate``.
    """
    lacking = np.maximum(np.asarray(discrepancy, dtype=np.float64), 0.0)
    need = _shares(np.where(lacking > 0, lacking**gamma, 0.0))
    mix = _shares(last_quotas.astype(np.float64))
    if need.any() and mix.any():
        mix = momentum * mix + (1 - momentum) * need
    elif need.any():
        mix = need
    return allocate(mix, total, np.full(len(lacking), cap, dtype=np.int64), ties)


def _shares(weights: Floats) -> Floats:
    largest = weights.max(initial=0.0)
    scaled = weights / largest if largest > 0 else weights
    return scaled / scaled.sum() if largest > 0 else weights
