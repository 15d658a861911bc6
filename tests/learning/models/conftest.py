"""A user's own modules, importable by dotted name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, channels, image_size):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("order", torch.arange(8).flip(0))
        self.out = nn.Linear(8 * (image_size // 2) ** 2, num_classes, bias=False)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()[:, self.order]
        return self.out(self.drop(x.flatten(1)))


class Softmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class OneMore(Net):
    def __init__(self, num_classes, channels, image_size):
        super().__init__(num_classes + 1, channels, image_size)


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


class Raises(Net):
    def forward(self, x):
        raise KeyError("oops")


class Sequence(nn.Module):
    def __init__(self, num_classes, channels, image_size):
        super().__init__()
        self.out = nn.Linear(image_size, num_classes)

    def forward(self, x):
        return self.out(x[:, 0, 0])


def wants_one(classes):
    return None


def no_module(num_classes, channels, image_size):
    return 3


constant = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module of networks."""
    (tmp_path / "own_nets_of_a_test.py").write_text(NETS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_nets_of_a_test", raising=False)
    return "own_nets_of_a_test"
