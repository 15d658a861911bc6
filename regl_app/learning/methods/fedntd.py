"""FedNTD (Lee et al., 2022): a client keeps the global model's opinion of what an image is not.

Choose it where clients forget the classes that they lack and label counts must play no part.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from regl_app.learning.methods.method import Batch, Local, Method


class FedNTD(Method):
    """``loss = cross_entropy + beta * t^2 * KL(q_global || q_local)``.

    ``q = softmax(f / t)`` over the ``C - 1`` classes that an image is not of; ``beta`` and ``t``
    are ``train.fedntd-beta`` and ``train.fedntd-tau``. ``t^2``, from the authors' code, keeps the
    gradient's size whatever ``t``; at their ``t = 1`` it makes no difference.
    """

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return cross-entropy plus the not-true distillation."""
        labels, tau = batch.labels, self.train.fedntd_tau
        logits = model(batch.images).float()
        with torch.no_grad():
            teacher = local.global_model(batch.images).float()
        distance = functional.kl_div(
            (_others(logits, labels) / tau).log_softmax(dim=1),
            (_others(teacher, labels) / tau).log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )
        cross_entropy = self.cross_entropy(logits, batch, local)
        return cross_entropy + self.train.fedntd_beta * tau**2 * distance


def _others(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the logits ``(N, C - 1)`` of each image's other classes, from the next one around."""
    classes = logits.shape[1]
    steps = torch.arange(1, classes, device=labels.device)
    return logits.gather(1, (labels[:, None] + steps) % classes)
