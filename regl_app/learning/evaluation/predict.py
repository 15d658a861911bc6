"""A classifier's answers on images, in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from regl_app.data.images import to_float
from regl_app.data.pictures import Pictures, portions

_MOST_PIXELS = 500 * 128**2
"""Pixels that a model looks at at once: what it makes of them takes a hundred times their bytes."""


def predict_log_probs(
    model: nn.Module,
    images: Pictures,
    device: torch.device | str,
    batch_size: int = 500,
) -> torch.Tensor:
    """Return log-probabilities ``(N, num_classes)`` float32, on the CPU, of uint8 images.

    Computed in fp32: discrepancies are differences of close numbers.
    """
    logits = apply_in_batches(model, model, images, device, batch_size)
    return functional.log_softmax(logits, dim=1)


@torch.no_grad()
def apply_in_batches(
    model: nn.Module,
    function: Callable[[torch.Tensor], torch.Tensor],
    images: Pictures,
    device: torch.device | str,
    batch_size: int,
) -> torch.Tensor:
    """Return ``function`` of uint8 ``(N, C, H, W)`` images, float32 on the CPU.

    ``model``, whose method or self ``function`` is, is in evaluation mode meanwhile. It gets fewer
    than ``batch_size`` at once where they are large.
    """
    height, width = images.shape[2:]
    batch_size = min(batch_size, max(1, _MOST_PIXELS // (height * width)))
    was_training = model.training
    model.to(device).eval()
    # One pass over at least an empty batch, so that the result has its second axis.
    parts = [function(to_float(batch.to(device))).float() for batch in portions(images, batch_size)]
    model.train(was_training)
    return torch.cat(parts).cpu()
