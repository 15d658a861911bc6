"""Class experts: who holds a class for real speaks for it.

FedFTG's class-level ensemble (Zhang et al., CVPR 2022): a client that never saw a class learned it
from prompts alone, and would only repeat what they get wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from regl_app.core.types import Floats, Tensors, Weights
from regl_app.data.images import ImageSet
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.exchange import RoundResult
from regl_app.supplement.batched_scoring import score_models

_HEAD = ("head.weight", "head.bias")
_MOST_ANSWERS = 2**26  # of all models on all images at once: 256 MB


def say(results: Mapping[int, RoundResult], held: Floats) -> Floats:
    """Return each client's say in each class, ``(K, C)``: ``n_k[c] / sum_i n_i[c]``.

    A class that nobody of this round holds, or tells of, is everybody's by number of images, as in
    FedAvg.

    Args:
        results: those with a model are the K clients, in their order.
        held: n, what each of them is taken to hold (``holdings``), ``(K, C)`` >= 0.
    """
    uploads = [each for each in results.values() if each.weights is not None]
    images = np.array([[u.num_examples] for u in uploads], dtype=np.float64)
    total = held.sum(axis=0)
    some = np.where(total > 0, total, 1.0)
    shares: Floats = np.where(total > 0, held / some, images / images.sum())
    return shares


def opinion(
    states: Sequence[Weights],
    shares: Floats,
    architecture: Classifier,
    images: ImageSet,
    device: torch.device,
) -> torch.Tensor:
    """Return the experts' joint opinion ``(N, C)`` float32, rows adding up to 1.

    ``q(c|x) = sum_k s_k[c] p_k(c|x) / sum_c' sum_k s_k[c'] p_k(c'|x)``. A model whose answers are
    no finite numbers has no say.

    Args:
        states: the clients' last models, K of them.
        shares: their say s, ``(K, C)``.
        architecture: a model of their kind.
        images: N of them, at least one.
        device: where to compute.
    """
    at_once = max(1, _MOST_ANSWERS // shares.size)
    parts = torch.split(images.images, at_once)
    spoken = torch.cat([_spoken(states, shares, architecture, part, device) for part in parts])
    return spoken / spoken.sum(dim=1, keepdim=True).clamp_min(1e-12)


def _spoken(
    states: Sequence[Weights],
    shares: Floats,
    architecture: Classifier,
    images: torch.Tensor,
    device: torch.device,
) -> torch.Tensor:
    log_probs = score_models(states, architecture, images, device)
    finite = torch.isfinite(log_probs).all(dim=2).all(dim=1)
    weights = torch.from_numpy(shares).float() * finite[:, None]
    probabilities = torch.where(finite[:, None, None], log_probs, -torch.inf).exp()
    return torch.einsum("kc,knc->nc", weights, probabilities)


def expert_head(
    average: Weights,
    states: Sequence[Weights],
    shares: Floats,
    *,
    bounded_by: Floats | None = None,
    kept: Sequence[bool] | None = None,
) -> dict[str, torch.Tensor]:
    """Return the average with a last layer whose rows come from those who hold their class.

    ``w_c = sum_k s_k[c] W_k[c]``, weights and biases alike, in double precision.

    Args:
        average: what the run's strategy made of the states.
        states: the clients' last models, K of them.
        shares: their say s, ``(K, C)``.
        bounded_by: what they are taken to hold, ``(K, C)``, as ``say`` was told: no row, weights
            and bias together, goes further from the average's than the median, over the classes
            that somebody holds, of how far they would. Where
            clients' features disagree, a few rows of an expert head are much longer than the others
            and take the other classes' images; the bound also limits what a client can do that
            claims a class (ours, measured in docs/teaching-results.md). A class that nobody holds
            keeps the average's row, and says nothing of how far the others go. None: no bound.
        kept: the classes ``(C,)`` whose row stays the average's; None: no class's. Of a plain
            average, everybody's say by number of images gives that row again, up to rounding.
    """
    own = torch.from_numpy(shares)  # (K, C)
    mixed: dict[str, torch.Tensor] = {}
    for name in average.keys() & set(_HEAD):
        theirs = torch.stack([state[name].detach().cpu().double() for state in states])
        weights = own.reshape(*own.shape, *(1,) * (theirs.ndim - 2))
        mixed[name] = (weights * theirs).sum(dim=0)
    middle = {name: average[name].detach().cpu().double() for name in mixed}
    if kept is not None:
        rest = torch.tensor(kept)
        for name, value in mixed.items():
            value[rest] = middle[name][rest]
    rows: Tensors = mixed
    if bounded_by is not None:
        rows = _bounded(mixed, middle, torch.from_numpy(bounded_by.sum(axis=0) > 0))
    return {**average, **{name: value.to(average[name].dtype) for name, value in rows.items()}}


def _bounded(rows: Tensors, average: Tensors, held: torch.Tensor) -> Tensors:
    """Return ``rows`` (C, ...), none further from ``average`` than the median of those ``held``."""
    if not held.any():
        return rows
    shifts = {name: value - average[name] for name, value in rows.items()}
    squares = [shift.square().reshape(len(shift), -1).sum(dim=1) for shift in shifts.values()]
    far = torch.stack(squares).sum(dim=0).sqrt()
    kept = (far[held].median() / far.clamp_min(1e-12)).clamp_max(1.0)
    return {
        name: average[name] + shift * kept.reshape(-1, *(1,) * (shift.ndim - 1))
        for name, shift in shifts.items()
    }
