"""torchvision's ResNets with GroupNorm and, for small images, a small stem."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn

from regl_app.config.sections import ModelConfig
from regl_app.learning.models.classifier import Classifier

_SMALL = 64


class ResNet(Classifier):
    """ResNet-18, -34 or -50.

    Images up to 64 pixels keep their resolution in the stem (3x3, stride 1, no pooling), as is
    usual for CIFAR: the original stem would leave 1x1 maps of a 32x32 image.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        channels: int,
        image_size: int,
    ) -> None:
        super().__init__()
        from torchvision.models import resnet

        body: Any = getattr(resnet, name)(norm_layer=_group_norm)
        if image_size <= _SMALL:
            body.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
            body.maxpool = nn.Identity()
        else:
            body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.head = nn.Linear(body.fc.in_features, num_classes)
        body.fc = nn.Identity()
        self.body = body

    @classmethod
    def of(cls, config: ModelConfig, num_classes: int, channels: int, image_size: int) -> Self:
        """Return the one that ``config`` names."""
        return cls(config.name, num_classes, channels, image_size)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the globally pooled features ``(N, 512)`` (ResNet-50: ``(N, 2048)``)."""
        features: torch.Tensor = self.body(x)
        return features


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)
