"""Tensors on their way to a device."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor`` on ``device``, without waiting for what a GPU still has to do.

    A plain copy of ordinary memory waits for all of it, so that the next step is only asked for
    when the last one is done.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
