"""How images lie among real ones: density and spread of feature vectors, calibrated at any number.

Both compare with what as many fresh real images would show, so that few images make them less
sure but not smaller, as they do FID, precision and recall.
"""

from __future__ import annotations

import math

import torch

NEIGHBOURS = 3
"""k of the balls around real images, as in Kynkäänniemi et al. 2019."""


def density(real: torch.Tensor, made: torch.Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Return in how many balls of real images an image of ``made`` lies, over ``neighbours``.

    Density of Naeem et al. 2020, eq. 4, with B(x) the ball around a real x that reaches to its
    k-th nearest other real one::

        1 / (k M) * sum_j sum_i [y_j in B(x_i)]

    For images drawn like the real ones its expectation is 1, at any N and M: y_j is as likely as
    each of the others to be among the k nearest of x_i. 0: outside of all balls; above 1: nearer to
    the middle than real images are.

    Args:
        real: features ``(N, D)``, N > k.
        made: features ``(M, D)``, M > 0.
        neighbours: k.
    """
    among = torch.cdist(real, real).fill_diagonal_(math.inf)
    radii = among.kthvalue(neighbours, dim=1).values
    inside = torch.cdist(real, made) <= radii[:, None]
    return float(inside.sum()) / (neighbours * len(made))


def spread(features: torch.Tensor) -> float:
    """Return the mean distance between two different rows of ``features`` ``(N, D)``, N > 1."""
    return float(torch.nn.functional.pdist(features).mean())
