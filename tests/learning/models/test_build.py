"""Classifiers: shapes, seeds, and no trace in the global random state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
import torch
from torch import nn

from regl_app.config.sections import ModelConfig
from regl_app.learning.models import build_model


@pytest.mark.parametrize(
    ("name", "size", "channels", "width"),
    [
        ("cnn", 32, 1, 2048),
        ("cnn", 8, 3, 2048),
        ("resnet18", 32, 1, 512),
        ("resnet50", 96, 3, 2048),
    ],
)
def test_shapes(
    name: Literal["cnn", "resnet18", "resnet50"], size: int, channels: int, width: int
) -> None:
    model = build_model(ModelConfig(name=name), 7, channels, size, 0)
    images = torch.rand(2, channels, size, size) * 2 - 1
    with torch.no_grad():
        assert model(images).shape == (2, 7)
        features = model.features(images)
    assert features.shape == (2, width)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_weights_depend_on_the_seed_alone(name: Literal["cnn", "resnet18"]) -> None:
    config = ModelConfig(name=name, width=8)
    torch.manual_seed(1)
    one = build_model(config, 10, 1, 32, 5).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = build_model(config, 10, 1, 32, 5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = build_model(config, 10, 1, 32, 6).state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_concurrent_clients_build_the_same_model() -> None:
    def build(_: int) -> torch.Tensor:
        return torch.cat(
            [p.flatten() for p in build_model(ModelConfig(), 10, 1, 32, 0).parameters()]
        )

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(build, range(8))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_no_batch_statistics(name: Literal["cnn", "resnet18"]) -> None:
    model = build_model(ModelConfig(name=name), 10, 3, 32, 0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not list(model.buffers())  # every tensor of the state is a weight to be averaged


def test_small_images_keep_their_resolution_in_the_stem() -> None:
    model = build_model(ModelConfig(name="resnet18"), 10, 3, 32, 0)
    shapes: list[torch.Size] = []
    body = model.get_submodule("body")
    body.get_submodule("layer4").register_forward_hook(
        lambda module, inputs, output: shapes.append(output.shape)
    )
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert shapes[0][-2:] == (4, 4)


def test_the_cnn_is_small() -> None:
    size = sum(p.numel() for p in build_model(ModelConfig(), 10, 1, 32, 0).parameters())
    assert 80_000 < size < 200_000


@pytest.mark.parametrize("width", [4, 7, 33])
def test_any_width_has_its_groups(width: int) -> None:
    model = build_model(ModelConfig(width=width), 3, 1, 16, 0)
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 3)
