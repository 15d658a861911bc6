"""FID and KID: how far a client's synthetic images are from its real ones, all together.

By torchmetrics, on features that the run names (``supplement.distance``). Both kinds have the same
classes in the same numbers, so that no label skew is taken for a fault of the images.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from regl_app.core.seeding import derive_seed, torch_generator
from regl_app.data.images import ImageSet
from regl_app.supplement.distance_features import Embed

DISTANCES = ("fid", "kid")
"""What is measured, a number each for all of a client's images."""
LEAST_KID = 50
"""Images of each kind below which KID is not measured: the unbiased estimate is mostly noise."""
_MOST = 5000
_SUBSET, _SUBSETS = 1000, 20


def measure_distances(made: ImageSet, train: ImageSet, embed: Embed) -> Mapping[str, float]:
    """Return ``fid`` and ``kid`` of synthetic against real images, each only where images suffice.

    KID (Binkowski et al. 2018: squared MMD of the cubic polynomial kernel, unbiased at any size)
    needs ``LEAST_KID`` images of each kind. FID (Heusel et al. 2017: Frechet distance of two
    Gaussians) needs more images than there are features, as no covariance has full rank below.
    At most 5000 of each kind are looked at. The same images give the same numbers; no global random
    state is read.

    Args:
        made: the synthetic images.
        train: the client's training images.
        embed: features ``(N, D)`` of uint8 images ``(N, C, H, W)``.
    """
    ours, theirs = _alike(made, train)
    count = len(ours)
    if count < LEAST_KID:
        return {}
    one, other = embed(ours.images).double(), embed(theirs.images).double()
    found = {"kid": _kid(one, other)}
    if count > one.shape[1]:
        found["fid"] = _fid(one, other)
    return found


def _alike(made: ImageSet, train: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return as many of both, class by class: what there is of the rarer kind."""
    shared = sorted(set(made.labels.tolist()) & set(train.labels.tolist()))
    chosen: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    random = torch_generator(0, "image distance")
    for label in shared:
        places = [torch.nonzero(each.labels == label).flatten() for each in (made, train)]
        count = min(*map(len, places), max(_MOST // len(shared), 1))
        for kept, there in zip(chosen, places, strict=True):
            kept.append(there[torch.randperm(len(there), generator=random)[:count]])
    empty = torch.empty(0, dtype=torch.int64)
    return (
        made.subset(torch.cat([empty, *chosen[0]])),
        train.subset(torch.cat([empty, *chosen[1]])),
    )


class _AsTheyAre(nn.Module):
    """Hands features on: torchmetrics asks a module for those of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _fid(made: torch.Tensor, real: torch.Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_AsTheyAre(made.shape[1]))
    metric.update(real, real=True)
    metric.update(made, real=False)
    return float(metric.compute())


def _kid(made: torch.Tensor, real: torch.Tensor) -> float:
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(made), _SUBSET)
    # A subset of all images is the same each time.
    subsets = 1 if size == len(made) else _SUBSETS
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features")
        torch.manual_seed(derive_seed(0, "kernel inception distance"))
        metric = KernelInceptionDistance(
            feature=_AsTheyAre(made.shape[1]), subsets=subsets, subset_size=size
        )
        metric.update(real, real=True)
        metric.update(made, real=False)
        return float(metric.compute()[0])
