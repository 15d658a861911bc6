"""FedAvg (McMahan et al., 2017): plain cross-entropy at the client. The baseline of all."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class FedAvg:
    """Cross-entropy."""

    needs_global = False

    def loss(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        global_model: nn.Module | None,
    ) -> torch.Tensor:
        """Return the mean cross-entropy of the batch."""
        return functional.cross_entropy(model(images).float(), labels)
