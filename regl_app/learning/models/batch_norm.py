"""What stands in for BatchNorm in others' networks: GroupNorm, or its statistics held fast.

Either is called by the same names of scale and shift, so that pretrained ones are found. What timm
joins to a BatchNorm, an activation say, stays behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

_MOST_GROUPS, _LEAST_CHANNELS = 32, 8

Make = Callable[[_BatchNorm], nn.Module]


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of ``module``, itself included, of any kind."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def without_batch_norm(module: nn.Module, make: Make) -> nn.Module:
    """Return ``module`` with what ``make`` makes of each BatchNorm in its place."""
    if isinstance(module, _BatchNorm):
        return make(module)
    made: dict[_BatchNorm, nn.Module] = {}
    # One layer may stand in several places.
    for path, part in list(module.named_modules(remove_duplicate=False)):
        if isinstance(part, _BatchNorm):
            parent, _, leaf = path.rpartition(".")
            made[part] = made[part] if part in made else make(part)
            setattr(module.get_submodule(parent), leaf, made[part])
    return module


class AsGroupNorm(nn.GroupNorm):
    """GroupNorm with the scale and shift of ``norm``, in up to 32 groups of at least 8 channels.

    In smaller ones little would be left of maps of a single pixel, which small images end in.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        channels = norm.num_features
        most = min(_MOST_GROUPS, max(1, channels // _LEAST_CHANNELS))
        groups = max(g for g in range(1, most + 1) if channels % g == 0)
        super().__init__(groups, channels, norm.eps, norm.affine)
        if norm.affine:
            with torch.no_grad():
                self.weight.copy_(norm.weight)
                self.bias.copy_(norm.bias)
        self.joined = _joined(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` normed."""
        joined: torch.Tensor = self.joined(super().forward(x))
        return joined


class HeldBatchNorm(nn.Module):
    """BatchNorm by the running statistics of ``norm``, in training too; scale and shift learn."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        channels = norm.num_features
        mean, var = norm.running_mean, norm.running_var
        self.register_buffer("running_mean", torch.zeros(channels) if mean is None else mean)
        self.register_buffer("running_var", torch.ones(channels) if var is None else var)
        self.joined = _joined(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` normed."""
        normed = functional.batch_norm(
            x,
            self.get_buffer("running_mean"),
            self.get_buffer("running_var"),
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )
        joined: torch.Tensor = self.joined(normed)
        return joined


def _joined(norm: _BatchNorm) -> nn.Sequential:
    return nn.Sequential(*(part for part in norm.children() if not isinstance(part, nn.Identity)))
