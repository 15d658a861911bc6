"""Soft labels of synthetic images: the prompt's class, less and less sure of itself.

A prompt is a noisy label: a generator that misreads it gives an image of another class. A model
that saw real images of that class knows better (FedFTG, Zhang et al., CVPR 2022).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from regl_app.config.teaching_sections import LabelsConfig


def opinion_share(config: LabelsConfig, round_number: int) -> float:
    """Return ``a_t = a_max (1 - exp(-(t - 1) / rounds))``: 0 in round 1, when nobody knows more."""
    return config.share * (1 - math.exp(-(round_number - 1) / config.rounds))


def soft_labels(labels: torch.Tensor, opinion: torch.Tensor, share: float) -> torch.Tensor:
    """Return ``(1 - share) onehot(y) + share q``, ``(N, C)`` float32.

    Args:
        labels: the prompts' classes y, ``(N,)``.
        opinion: a model's probabilities q, ``(N, C)``.
        share: in [0, 1].
    """
    prompted = functional.one_hot(labels, opinion.shape[1]).float()
    return (1 - share) * prompted + share * opinion.float()
