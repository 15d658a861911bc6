"""FedProx (Li et al., 2020): a proximal term keeps the client near the global model.

Choose it when clients drift: strong label skew with many local steps.
"""

from __future__ import annotations

import torch
from torch import nn

from regl_app.core.errors import RunError
from regl_app.learning.methods.fedavg import FedAvg


class FedProx(FedAvg):
    """``loss = cross_entropy + mu / 2 * ||w - w_global||^2``."""

    needs_global = True

    def __init__(self, mu: float) -> None:
        self.mu = mu

    def loss(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        global_model: nn.Module | None,
    ) -> torch.Tensor:
        """Return cross-entropy plus the proximal term.

        Raises:
            RunError: ``global_model`` is missing.
        """
        if global_model is None:
            raise RunError("objective 'fedprox' needs the round's global model, got None")
        pairs = zip(model.parameters(), global_model.parameters(), strict=True)
        distance = torch.stack([(own - base).square().sum() for own, base in pairs]).sum()
        return super().loss(model, images, labels, None) + self.mu / 2 * distance
