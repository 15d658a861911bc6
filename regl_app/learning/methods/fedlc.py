"""FedLC (Zhang et al., 2022): margins keep a client's frequent classes from pushing out its rare.

Choose it where clients hold most classes, but unevenly.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from regl_app.learning.methods.label_counts import label_counts
from regl_app.learning.methods.method import Batch, Local, Method


class FedLC(Method):
    """``loss = cross_entropy(f - tau * n^(-1/4))``: ``n`` the label counts, ``train.fedlc-tau``.

    The equation divides by zero for a class that a client lacks. It counts 1e-8 images here and is
    100 ``tau`` lower, all but out of the softmax: the client neither learns nor unlearns it. So
    does FL-bench; in fluke and Flower's baseline ``n^(-1/4)`` is infinite, to the same effect.

    FL-bench reads the paper's denominator as one without the true class, which leaves the loss
    without a lower bound, and saw it collapse; like all of these, this one has all classes in it.
    """

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return the cross-entropy of the calibrated logits."""
        margins = self.train.fedlc_tau * local.once(label_counts).pow(-0.25)
        return functional.cross_entropy(model(batch.images).float() - margins, batch.target)
