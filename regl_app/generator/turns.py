"""Which of a client's pictures an image is drawn after: its class's own, or in turn all others."""

from __future__ import annotations

from collections.abc import Sequence

import torch

PER_CLASS = 32
"""Pictures of a class that are enough to draw after."""


def in_turns(labels: torch.Tensor, most: int = PER_CLASS) -> torch.Tensor:
    """Return the places ``(M,)`` of the first ``most`` pictures of each class, classes in turn.

    Args:
        labels: of the pictures, ``(N,)``.
        most: of a class.
    """
    places = [torch.nonzero(labels == label).flatten() for label in classes_of(labels)]
    if not places:
        return torch.empty(0, dtype=torch.int64)
    turns = torch.cat([torch.arange(len(each)) for each in places])
    order = turns.argsort(stable=True)[: int((turns < most).sum())]
    return torch.cat(places)[order.to(labels.device)]


def drawn_after(own: torch.Tensor, labels: Sequence[int], indices: Sequence[int]) -> list[int]:
    """Return the place of the picture that each image is drawn after, among those of ``own``.

    A class that the client has takes its own pictures in turn; one that it lacks all others.

    Args:
        own: classes of the client's pictures, ``(M,)``, at least one.
        labels: classes of the images, ``(N,)``.
        indices: place of each in its class's sequence, ``(N,)``.
    """
    places = [torch.nonzero(own == label).flatten() for label in labels]
    everything = torch.arange(len(own))
    return [
        int((mine if len(mine) else everything)[index % (len(mine) or len(everything))])
        for mine, index in zip(places, indices, strict=True)
    ]


def classes_of(labels: torch.Tensor) -> list[int]:
    """Return the classes among ``labels``, ascending."""
    return sorted(set(labels.tolist()))
