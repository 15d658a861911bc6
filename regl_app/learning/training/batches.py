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


def batches(images: int, config: TrainConfig, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield the image indices of each local step.

    With ``train.epochs`` each epoch is a permutation whose last batch may be smaller. With
    ``train.steps`` permutations follow each other without a gap, so that every step of every
    client sees ``batch-size`` images (all its images, if it has fewer).
    """
    steps = num_steps(images, config)
    if config.epochs:
        for _ in range(config.epochs if images else 0):
            order = torch.randperm(images, generator=generator)
            yield from torch.split(order, config.batch_size)
        return
    size = min(config.batch_size, images)
    pending = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(pending) < size:
            pending = torch.cat([pending, torch.randperm(images, generator=generator)])
        yield pending[:size]
        pending = pending[size:]
