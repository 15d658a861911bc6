"""Random shifts: the one augmentation that suits digits, letters and objects alike."""

from __future__ import annotations

import torch


def random_shift(images: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Return ``(N, C, H, W)`` images, each moved by up to ``most`` pixels along both axes.

    The border is repeated into the gap, so any background stays what it is. ``generator`` lives
    on the CPU.
    """
    count, channels, height, width = images.shape
    shifts = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + shifts[0]).clamp(0, height - 1).to(images.device)  # (N, H)
    columns = (torch.arange(width) + shifts[1]).clamp(0, width - 1).to(images.device)  # (N, W)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
