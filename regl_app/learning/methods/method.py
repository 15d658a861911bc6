"""What a local learning rule must provide."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn


class Objective(Protocol):
    """A method's difference from FedAvg: the loss of one local step."""

    @property
    def needs_global(self) -> bool:
        """Whether ``loss`` wants the round's global model."""
        ...

    def loss(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        global_model: nn.Module | None,
    ) -> torch.Tensor:
        """Return the scalar loss of ``images`` ``(N, C, H, W)`` in [-1, 1], ``labels`` ``(N,)``.

        ``global_model`` is the frozen model the round started from, or None if not needed.
        """
        ...
