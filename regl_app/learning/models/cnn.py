"""A small GroupNorm CNN, quick on a single CPU core."""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

import torch
from torch import nn

from regl_app.config.sections import ModelConfig
from regl_app.learning.models.classifier import Classifier

_GRID = 4  # what stride 8 leaves of 32x32, so nothing is averaged there


class SmallCnn(Classifier):
    """Three convolution stages and a head on a small grid; 0.1 M parameters at ``width`` 32.

    The head sees *where* features are. On digits a global mean needed several times the rounds:
    after four rounds of ten clients at Dirichlet 0.5 it had 0.78 accuracy, the 4x4 grid 0.96.

    GroupNorm rather than BatchNorm: averaging the batch statistics of clients that hold
    different classes would leave a model that fits nobody.
    """

    def __init__(self, num_classes: int, channels: int, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            OrderedDict(
                stage1=_stage(channels, width, kernel=5),
                stage2=_stage(width, 2 * width),
                stage3=_stage(2 * width, 4 * width),
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(_GRID)
        self.head = nn.Linear(4 * width * _GRID**2, num_classes)

    @classmethod
    def of(cls, config: ModelConfig, num_classes: int, channels: int, image_size: int) -> Self:
        """Return that of ``config``; any ``image_size`` ends in the same grid."""
        return cls(num_classes, channels, config.width)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last stage on its grid, flat: ``(N, 4 * width * 16)``."""
        features: torch.Tensor = self.pool(self.body(x)).flatten(start_dim=1)
        return features


def _stage(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Halve the resolution: strided convolution, GroupNorm, ReLU."""
    groups = max(g for g in range(1, 9) if outputs % g == 0)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(inplace=True),
    )
