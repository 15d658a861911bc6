"""What every classifier offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class Classifier(nn.Module, ABC):
    """Logits from a linear head on penultimate features.

    Subclasses implement ``features`` and set ``head``.
    """

    head: nn.Linear

    @abstractmethod
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the penultimate features ``(N, D)`` of images ``(N, C, H, W)`` in [-1, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(N, num_classes)`` of images ``(N, C, H, W)`` in [-1, 1]."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits
