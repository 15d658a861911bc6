"""Which images make up which local step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from regl_app.config.sections import TrainConfig
from regl_app.core.types import Counts, Floats


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
    if (parts := _parts(images, real, config)) is not None:
        anchored, others = parts
        theirs, rest = _Deck(0, real, generator), _Deck(real, images, generator)
        for _ in range(steps):
            yield torch.cat([theirs.take(anchored), rest.take(others)])
    elif config.epochs:
        for _ in range(config.epochs if images else 0):
            order = torch.randperm(images, generator=generator)
            yield from torch.split(order, config.batch_size)
    else:
        deck, size = _Deck(0, images, generator), min(config.batch_size, images)
        for _ in range(steps):
            yield deck.take(size)


def drawn_counts(counts: Counts, real_counts: Counts, config: TrainConfig) -> Floats | None:
    """Return the images per class ``(C,)`` that ``batches`` draws from, in the mean over steps.

    They add up to as many as ``counts``, and stand to each other as what a step holds of them.
    None where images come as they are, so that ``counts`` say it.

    Args:
        counts: of all images, ``(C,)``.
        real_counts: of the real ones among them, ``(C,)``.
        config: how many images of a step are real.
    """
    images, real = int(counts.sum()), int(real_counts.sum())
    if (parts := _parts(images, real, config)) is None:
        return None
    share = parts[0] / sum(parts)
    of_real, of_others = share / real, (1 - share) / (images - real)
    drawn: Floats = images * (of_real * real_counts + of_others * (counts - real_counts))
    return drawn


def _parts(images: int, real: int, config: TrainConfig) -> tuple[int, int] | None:
    """Return how many real and how many other images a step takes; None: as they come."""
    if not 0 < real < config.real_share * images:
        return None
    size = min(config.batch_size, images)
    anchored = min(real, max(1, round(config.real_share * size)))
    return anchored, min(images - real, size - anchored)


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
