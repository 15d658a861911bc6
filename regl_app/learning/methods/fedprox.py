"""FedProx (Li et al., 2020): a proximal term keeps the client near the global model.

Choose it when clients drift: strong label skew with many local steps.
"""

from __future__ import annotations

import torch
from torch import nn

from regl_app.learning.methods.method import Batch, Local, Method


class FedProx(Method):
    """``loss = cross_entropy + mu / 2 * ||w - w_global||^2``, mu being ``train.proximal``."""

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return cross-entropy plus the proximal term."""
        pairs = zip(model.parameters(), local.global_model.parameters(), strict=True)
        distance = torch.stack([(own - base).square().sum() for own, base in pairs]).sum()
        return super().loss(model, batch, local) + self.train.proximal / 2 * distance
