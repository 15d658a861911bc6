"""Which images make up which local step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from regl_app.config.sections import TrainConfig


def num_steps(images: int, config: TrainConfig) -> int:
    """Return the local steps for a client with ``images`` images: 0 if it has none."""
    if images == 0:
        return 0
    if config.epochs:
        return config.epochs * -(-images // config.batch_size)
    return config.steps


def batches(
    images: int, config: TrainConfig, generator: torch.Generator, real: int | None = None
) -> Iterator[torch.Tensor]:
    """Yield the image indices of each local step.

    With ``train.epochs`` each epoch is a permutation whose last batch may be smaller. With
    ``train.steps`` permutations follow each other without a gap, so that every step of every
    client sees ``batch-size`` images (all its images, if it has fewer).

    Where fewer than ``train.real-share`` of the images are real, each step takes that share of its
    images from the real ones (all of them, if they are fewer) and the rest from the others, each
    kind in permutations of its own; an epoch then counts as many steps as otherwise.

    Args:
        images: how many there are.
        config: how many steps of how many images.
        generator: of the order.
        real: how many of them, the first ones, are real; None: all.
    """
    steps, real = num_steps(images, config), images if real is None else real
    size = min(config.batch_size, images)
    if 0 < real < config.real_share * images:
        anchored = min(real, max(1, round(config.real_share * size)))
        others = min(images - real, size - anchored)
        theirs, rest = _Deck(0, real, generator), _Deck(real, images, generator)
        for _ in range(steps):
            yield torch.cat([theirs.take(anchored), rest.take(others)])
    elif config.epochs:
        for _ in range(config.epochs if images else 0):
            order = torch.randperm(images, generator=generator)
            yield from torch.split(order, config.batch_size)
    else:
        deck = _Deck(0, images, generator)
        for _ in range(steps):
            yield deck.take(size)


class _Deck:
    """Indices from ``first`` to ``end``, shuffled again whenever they run short."""

    def __init__(self, first: int, end: int, generator: torch.Generator) -> None:
        self._first, self._count = first, end - first
        self._generator = generator
        self._pending = torch.empty(0, dtype=torch.int64)

    def take(self, number: int) -> torch.Tensor:
        """Return the next ``number`` indices, at most as many as there are."""
        if len(self._pending) < number:
            order = torch.randperm(self._count, generator=self._generator) + self._first
            self._pending = torch.cat([self._pending, order])
        taken, self._pending = self._pending[:number], self._pending[number:]
        return taken
