"""SCAFFOLD (Karimireddy et al., 2020): control variates correct the clients' drift.

Each client keeps a control ``c_i``, an estimate of its own gradient; the server keeps their mean
``c``. Every local step goes along ``g - c_i + c``, so that all clients move as one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from regl_app.core.types import Tensors
from regl_app.learning.methods.method import Local, Method, detached


class Scaffold(Method):
    """The paper's option II: ``c_i+ = c_i - c + (x - y_i) / (K * lr)``; needs plain SGD.

    The paper's optimizer has no momentum. With one, ``K * lr`` is what K equal gradients move a
    weight by (``displacement``), so that a constant gradient gives itself back.

    ``train.clip-norm`` bounds ``g`` alone, before it is corrected. Then ``(x - y_i) / (K * lr)``
    is the mean of ``g - c_i + c``, and the new control that of ``g``: the mean of clipped
    gradients, so that a control is no longer than they are.

    ``c`` stays the mean of all ``c_i`` only as long as both sides keep what the other has: a client
    whose reply is lost has a control that the server never added, one that lost its state folder
    has none any more, and ``c`` keeps that difference to the end of the run.
    """

    def after_backward(self, model: nn.Module, local: Local) -> None:
        """Correct the gradients: ``g - c_i + c``."""
        _ = local.global_model  # the x of ``finish``, to be copied before the first step
        correction = local.once(_correction)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parameter.grad.add_(correction[name])

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        """Return the new control, and its difference from the old one."""
        moved = displacement(self.train.lr, self.train.momentum, steps)
        before = dict(local.global_model.named_parameters())
        kept: dict[str, torch.Tensor] = {}
        sent: dict[str, torch.Tensor] = {}
        for name, parameter in detached(dict(model.named_parameters())).items():
            drift = (before[name].detach().cpu() - parameter) / moved
            server = local.received.get(name, torch.zeros_like(parameter))
            old = local.kept.get(name, torch.zeros_like(parameter))
            kept[name] = old - server + drift
            sent[name] = kept[name] - old
        return kept, sent

    def template(self, model: nn.Module) -> Tensors:
        """Return ``c = 0``, a tensor per parameter."""
        return {
            name: torch.zeros_like(value, device="cpu").detach()
            for name, value in model.named_parameters()
        }

    def aggregate(
        self,
        state: Tensors,
        sent: Mapping[int, Tensors],
        weights: Mapping[int, float],
        num_clients: int,
    ) -> Tensors:
        """Return ``c + 1/N * sum_i (c_i+ - c_i)``, over those of N clients that took part.

        N are all that can train: who has no images has no control either.
        """
        return {
            name: value + sum(each[name] for each in sent.values()) / num_clients
            for name, value in state.items()
        }


def _correction(local: Local) -> dict[str, torch.Tensor]:
    """Return ``c - c_i`` by parameter, beside it on its device: once a round, not every step."""
    zero = torch.zeros(())
    return {
        name: (local.received.get(name, zero) - local.kept.get(name, zero)).to(parameter.device)
        for name, parameter in local.model.named_parameters()
    }


def displacement(lr: float, momentum: float, steps: int) -> float:
    """Return how far ``steps`` equal unit gradients move a weight by SGD with ``momentum``.

    ``lr * sum_k (1 - m^k) / (1 - m)``; without momentum ``lr * steps``.
    """
    return lr * sum((1 - momentum**k) / (1 - momentum) for k in range(1, steps + 1))
