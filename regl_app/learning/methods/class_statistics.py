"""Statistics of each class's features: told by clients, combined at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from regl_app.core.bounds import MOST_IMAGES
from regl_app.core.types import Tensors

ROWS = 512
"""Directions in which a client tells of its covariances, all classes together."""


@dataclass(frozen=True)
class Gaussian:
    """A class's features: their ``mean`` ``(D,)`` and a ``factor`` ``(R, D)`` of their covariance,
    which is ``factor^T factor``; both in double precision."""

    mean: torch.Tensor
    factor: torch.Tensor

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return ``(count, D)`` float32 of it."""
        noise = torch.randn(count, len(self.factor), generator=generator, dtype=torch.float64)
        return (self.mean + noise @ self.factor).float()


def statistics(
    found: torch.Tensor, labels: torch.Tensor, num_classes: int, most: int = ROWS
) -> Tensors:
    """Return what a client tells of its features ``(N, D)`` with ``labels`` ``(N,)``.

    ``counts`` ``(C,)`` images of each class; ``means`` ``(C, D)``, zero without images; ``rows``
    ``(C,)``, how many of ``factors`` ``(most, D)``, in the order of classes, are the class's. With
    F its rows, ``F^T F`` is the class's covariance (divided by n - 1); rows that nobody has are 0.

    Args:
        found: N may be 0.
        labels: from 0 to ``num_classes`` - 1.
        num_classes: C.
        most: directions of all classes together; of more the longest are told.
    """
    width = found.shape[1]
    counts = torch.bincount(labels, minlength=num_classes)
    means = torch.zeros(num_classes, width)
    directions: list[torch.Tensor] = []
    for label, count in enumerate(counts.tolist()):
        own = found[labels == label].double()
        if count:
            means[label] = own.mean(dim=0).float()
        centred = own - own.mean(dim=0) if count > 1 else own[:0]
        directions.append(_directions(centred) / max(1, count - 1) ** 0.5)
    # The longest in the pooled scatter, (n - 1) times the covariance.
    weight = (counts - 1).clamp_min(1)
    lengths = [weight[label] * rows.square().sum(dim=1) for label, rows in enumerate(directions)]
    every = torch.cat(lengths)
    least = every.sort(descending=True).values[most] if len(every) > most else -torch.inf
    told = [rows[far > least] for rows, far in zip(directions, lengths, strict=True)]
    factors = torch.zeros(most, width)
    joined = torch.cat(told)
    factors[: len(joined)] = joined.float()
    rows = torch.tensor([len(each) for each in told])
    return {"counts": counts, "means": means, "rows": rows, "factors": factors}


def _directions(centred: torch.Tensor) -> torch.Tensor:
    """Return rows ``(R, D)``, R <= min(N - 1, D), with the scatter of ``centred`` ``(N, D)``.

    ``Z^T Z = (U^T Z)^T (U^T Z)`` for the eigenvectors U of ``Z Z^T``: principal directions, longest
    first, of which no single one is a row of Z.
    """
    images, width = centred.shape
    if images <= width:
        vectors = torch.linalg.eigh(centred @ centred.T).eigenvectors
        turned: torch.Tensor = vectors.T @ centred
        return turned.flip(0)[: max(0, images - 1)]  # centred, so that one of them is 0
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    scaled: torch.Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return scaled.flip(0)


def combine(sent: Sequence[Tensors]) -> list[Gaussian | None]:
    """Return each class's Gaussian, that of all clients' features together; None without images.

    The paper's equations, with N the sum of all n_k: ``mu = sum n_k mu_k / N`` and
    ``Sigma = sum (n_k - 1)/(N - 1) Sigma_k + sum n_k/(N - 1) mu_k mu_k^T - N/(N - 1) mu mu^T``. The
    last two are ``sum n_k/(N - 1) (mu_k - mu)(mu_k - mu)^T``, so that a factor of Sigma is made of
    the clients' rows and of their means. What a client claims stays within its own rows.
    """
    if not sent:
        return []
    counts = torch.stack([each["counts"] for each in sent]).clamp(0, MOST_IMAGES).double()
    found: list[Gaussian | None] = []
    for label in range(counts.shape[1]):
        images = counts[:, label]
        total = images.sum()
        if total < 1:
            found.append(None)
            continue
        means = torch.stack([each["means"][label] for each in sent]).double()
        mean = (images[:, None] * means).sum(dim=0) / total
        parts = [((images / (total - 1).clamp_min(1)).sqrt())[:, None] * (means - mean)]
        for each, count in zip(sent, images, strict=True):
            share = ((count - 1).clamp_min(0) / (total - 1).clamp_min(1)).sqrt()
            parts.append(share * _rows(each, label).double())
        found.append(Gaussian(mean, torch.cat(parts)))
    return found


def _rows(sent: Tensors, label: int) -> torch.Tensor:
    most = len(sent["factors"])
    ends = sent["rows"].clamp(0, most).cumsum(0).clamp_max(most).tolist()
    return sent["factors"][ends[label - 1] if label else 0 : ends[label]]
