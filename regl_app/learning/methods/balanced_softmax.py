"""Balanced softmax (Ren et al., 2020; logit adjustment, Menon et al., 2021), at each client.

Choose it where the test counts all classes alike: what is learnt is as if a client had as many
images of each class that it holds.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from regl_app.learning.methods.label_counts import label_counts
from regl_app.learning.methods.method import Batch, Local, Method


class BalancedSoftmax(Method):
    """``loss = cross_entropy(f + log(pi))``, ``pi`` being the client's shares of labels.

    ``pi = 0``, which only clients have: the class counts 1e-8 images and is all but out of the
    softmax. FedRoD, which takes this loss to clients, is implemented with ``log(0)``, the class
    wholly out (PFLlib, fluke); losses of long-tailed learning add 1e-9 or so to ``pi``.
    """

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return the cross-entropy of the adjusted logits."""
        counts = local.once(label_counts)
        adjusted = model(batch.images).float() + (counts / counts.sum()).log()
        return functional.cross_entropy(adjusted, batch.target)
