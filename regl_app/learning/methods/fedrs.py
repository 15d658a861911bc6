"""FedRS (Li & Zhan, 2021): a restricted softmax spares the classes that a client lacks.

Choose it where clients lack classes altogether and should not unlearn them.
"""

from __future__ import annotations

import torch
from torch import nn

from regl_app.learning.methods.label_counts import ABSENT, label_counts
from regl_app.learning.methods.method import Batch, Local, Method


class FedRS(Method):
    """``loss = cross_entropy(a * f)``: ``a`` is ``train.fedrs-alpha`` for absent classes, else 1.

    So does Flower's baseline; the first author's code (FedRepo) has ``a`` grow from alpha to 1 with
    a class's share instead. Ours: the head has a bias, which is scaled with its logit.
    """

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return the cross-entropy of the restricted softmax."""
        absent = local.once(label_counts) <= ABSENT
        logits = model(batch.images).float()
        restricted = torch.where(absent, self.train.fedrs_alpha * logits, logits)
        return self.cross_entropy(restricted, batch, local)
