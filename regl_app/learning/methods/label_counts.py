"""A client's label counts as corrections of its logits need them: beside the logits, never zero."""

from __future__ import annotations

import torch

from regl_app.learning.methods.method import Local

ABSENT = 1e-8
"""What a class without images counts. In a softmax it is as good as none, and its power and its
logarithm are finite: infinity times a strength or a target of 0 would be NaN."""


def label_counts(local: Local) -> torch.Tensor:
    """Return the images per class ``(C,)`` that this round trains on, on the model's device.

    Synthetic ones count: the bias to be corrected is that of all images trained on, and a class
    that a supplement has filled is none that the client lacks. They count as often as steps draw
    them, which is less where ``train.real-share`` keeps a share for real ones.
    """
    device = next(local.model.parameters()).device
    counts = torch.from_numpy(local.step_counts).to(device, torch.float32)
    return counts.clamp_min(ABSENT)
