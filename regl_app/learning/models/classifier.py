"""What every classifier offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class Classifier(nn.Module, ABC):
    """Logits from a linear head on penultimate features.

    Subclasses implement ``features`` and set ``head``, so that whoever needs the last layer finds
    it under that name.
    """

    head: nn.Linear
    foreign: bool = False
    """Its layers are others': they may draw from the global random state, and may not be mapped
    over several models at once."""
    words: str = ""
    """What a log says of how it was made, if there is something to say."""

    @abstractmethod
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the penultimate features ``(N, D)`` of images ``(N, C, H, W)`` in [-1, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(N, num_classes)`` of images ``(N, C, H, W)`` in [-1, 1]."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits
