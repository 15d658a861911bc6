"""Others' networks as classifiers: shapes, seeds, norms, what they are given, what is refused."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig, TrainConfig
from regl_app.core.errors import ConfigError
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.learning.models import build_model
from regl_app.learning.models.batch_norm import (
    AsGroupNorm,
    HeldBatchNorm,
    batch_norms,
    without_batch_norm,
)
from regl_app.learning.models.build import make_model
from regl_app.learning.models.foreign import ForeignClassifier
from regl_app.learning.training.loop import train_local

MOBILE = "torchvision:mobilenet_v3_small"


def _build(
    name: str, channels: int = 1, side: int = 32, seed: int = 0, **keys: object
) -> ForeignClassifier:
    config = ModelConfig.model_validate({"name": name, **keys})
    model = build_model(config, 7, channels, side, seed)
    assert isinstance(model, ForeignClassifier)
    return model


@pytest.mark.parametrize(
    ("name", "side", "width", "head"),
    [
        ("torchvision:resnet18", 32, 512, "fc"),
        (MOBILE, 32, 1024, "classifier.3"),
        ("torchvision:efficientnet_b0", 32, 1280, "classifier.1"),
        ("torchvision:convnext_tiny", 32, 768, "classifier.2"),
        ("torchvision:vit_b_32", 64, 768, "heads.head"),
        ("torchvision:swin_t", 32, 768, "head"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvisions(name: str, side: int, width: int, head: str, channels: int) -> None:
    model = _build(name, channels, side).eval()
    images = torch.rand(2, channels, side, side) * 2 - 1
    with torch.no_grad():
        features, logits = model.features(images), model(images)
    assert features.shape == (2, width) and logits.shape == (2, 7)
    assert model.head_name == head
    assert torch.equal(model.head(features), logits)
    assert not batch_norms(model)
    assert all(value.is_floating_point() for value in model.state_dict().values())
    assert {"head.weight", "head.bias"} < model.state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_depend_on_the_seed_alone_and_leave_no_trace() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: _build(MOBILE).state_dict(), range(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], each[key]) for each in others for key in first)
    other = _build(MOBILE, seed=1).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_copy_is_given_away(nets: str) -> None:
    one = _build(f"{nets}:Net")
    with torch.no_grad():
        one.head.weight.zero_()
    assert _build(f"{nets}:Net").head.weight.abs().sum() > 0


def test_what_a_name_stands_for_now_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, where a class is defined anew."""

    class Net(nn.Sequential):
        width = 4

        def __init__(self, num_classes: int, channels: int, image_size: int) -> None:
            inside = nn.Linear(channels * image_size**2, self.width)
            super().__init__(nn.Flatten(), inside, nn.Linear(self.width, num_classes))

    notebook = ModuleType("own_notebook_of_a_test")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    notebook.Net = Net  # type: ignore[attr-defined]
    name = f"{notebook.__name__}:Net"
    assert _build(name, side=8).head.in_features == 4
    notebook.Net = type("Net", (Net,), {"width": 6})  # type: ignore[attr-defined]
    assert _build(name, side=8).head.in_features == 6

    class Maker(SimpleNamespace):  # equal to another, and without a hash
        def __call__(self, *told: int) -> nn.Module:
            return type("Net", (Net,), {"width": Net.width})(*told)

    notebook.Net = Maker()  # type: ignore[attr-defined]
    assert _build(name, side=8).head.in_features == 4
    Net.width = 5  # what the same object makes by now shows when a run begins
    config = RunConfig.from_flat({"method": "fedavg", "model.name": name, "data.image-size": 8})
    model = make_model(config, Federation.load(config, 2))
    assert model.head.in_features == 5


def test_images_are_scaled_as_the_weights_expect() -> None:
    model = _build("torchvision:resnet18", channels=3)
    x = torch.rand(4, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    assert torch.allclose(model._prepared(2 * x - 1), (x - mean) / std, atol=1e-5)
    larger = _build("torchvision:resnet18", channels=3, input_size=48)
    assert larger._prepared(2 * x - 1).shape == (4, 3, 48, 48)


def test_gray_images_count_as_by_kernels_summed_over_colours() -> None:
    torch.manual_seed(0)
    kernel = nn.Conv2d(3, 4, 3, bias=False)
    gray = torch.rand(2, 1, 8, 8)
    summed = torch.nn.functional.conv2d(gray, kernel.weight.sum(1, keepdim=True))
    assert torch.allclose(kernel(gray.expand(-1, 3, -1, -1)), summed, atol=1e-6)
    one, three = _build("torchvision:resnet18", 1), _build("torchvision:resnet18", 3)
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    one.eval(), three.eval()
    with torch.no_grad():
        assert torch.equal(one(images), three(images.expand(-1, 3, -1, -1)))


class _Joined(nn.BatchNorm2d):
    """As timm has it: an activation in the norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.act(self.drop(super().forward(x)))
        return joined


def test_what_is_joined_to_a_norm_stays() -> None:
    norm = _Joined(6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    x = torch.randn(2, 6, 4, 4)
    wanted = torch.nn.functional.group_norm(x, 1, norm.weight, norm.bias, norm.eps).relu()
    assert torch.equal(without_batch_norm(copy.deepcopy(norm), AsGroupNorm)(x), wanted)
    inside = nn.Sequential(nn.Identity(), copy.deepcopy(norm))
    made = without_batch_norm(inside, AsGroupNorm)
    assert not batch_norms(made) and torch.equal(made(x), wanted)
    norm(torch.randn(8, 6, 4, 4) + 2)  # statistics that are not 0 and 1
    held = without_batch_norm(copy.deepcopy(norm), HeldBatchNorm)
    assert torch.equal(held.train()(x), norm.eval()(x))


@pytest.mark.parametrize(
    ("channels", "groups"), [(3, 1), (8, 1), (16, 2), (24, 3), (37, 1), (64, 8), (1024, 32)]
)
def test_groups_have_channels_enough(channels: int, groups: int) -> None:
    assert AsGroupNorm(nn.BatchNorm2d(channels)).num_groups == groups


def _images(count: int = 24, side: int = 16) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 7)


def test_frozen_statistics_stay_and_scale_and_shift_are_trained(nets: str) -> None:
    model = _build(f"{nets}:Net", side=16, norm="frozen")
    assert "keeps the running statistics" in model.words
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_local(model, _images(), TrainConfig(steps=3), seed=0, device="cpu")
    after = model.state_dict()
    for part in ("running_mean", "running_var"):
        assert torch.equal(before[f"body.norm.{part}"], after[f"body.norm.{part}"])
    assert not torch.equal(before["body.norm.weight"], after["body.norm.weight"])
    assert model.training and model.body.get_submodule("drop").training


def test_dropout_draws_from_the_runs_seed_whatever_other_threads_do(nets: str) -> None:
    def train(seed: int) -> torch.Tensor:
        model = _build(f"{nets}:Net", side=16)
        train_local(model, _images(), TrainConfig(steps=4), seed=seed, device="cpu")
        return torch.cat([value.flatten() for value in model.state_dict().values()])

    torch.manual_seed(3)
    state = torch.get_rng_state()
    alone = [train(seed) for seed in range(3)]
    assert torch.equal(torch.get_rng_state(), state)
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(train, range(3)), strict=True):
            assert torch.equal(one, other)


def test_ones_own_module_is_told_classes_channels_and_side(nets: str) -> None:
    model = _build(f"{nets}:Net", channels=3, side=16)
    assert model.head.in_features == 8 * 8 * 8 and model.head.out_features == 7
    assert model.head_name == "out" and model.head.bias.abs().sum() == 0
    assert "order" not in str(list(model.state_dict()))  # indices are not averaged
    for said in ("BatchNorm (layers: 1) is GroupNorm", "whole numbers (1)", "given a bias"):
        assert said in model.words
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(model._prepared(images), images, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Softmax", r"must return what its last nn\.Linear makes"),
        ("OneMore", r"must return logits \(N, 7\).*returned \(2, 8\)"),
        ("Pair", r"must return logits .*returned tuple"),
        ("Raises", r"fails on images of 16 x 16 pixels: KeyError: 'oops'"),
        ("wants_one", r"cannot be made .*TypeError.*number of classes, channels, side"),
        ("no_module", r"must give an nn\.Module, got int"),
        ("constant", r"must be an nn\.Module's class.*got int"),
        ("Absent", r"cannot be imported: .*'Absent'.*PYTHONPATH"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_by_name(nets: str, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        _build(f"{nets}:{name}", side=16)
    assert f"model.name='{nets}:{name}'" in str(refused.value)


def test_absent_packages_and_unknown_names_are_told() -> None:
    with pytest.raises(ConfigError, match=r"No module named 'nowhere'.*docs/models\.md"):
        _build("nowhere.nets:Net")
    with pytest.raises(ConfigError, match=r"no classifier 'mobilenet_v3'.*did you mean 'mobilenet"):
        _build("torchvision:mobilenet_v3")
    with pytest.raises(ConfigError, match=r"last nn\.Linear"):
        _build("torchvision:squeezenet1_0", side=64)
    with pytest.raises(ConfigError, match=r"32 x 32 pixels: RuntimeError.*model\.input-size"):
        _build("torchvision:alexnet")
    assert _build("torchvision:alexnet", input_size=64)(torch.zeros(1, 1, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("value", ["resnet", "torchvision:", "timm:a:b", "a.b", ":Net", "a b:C", 3])
def test_other_names_are_no_models(value: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.name must be one of 'cnn'.*got") as refused:
        RunConfig.from_flat({"model.name": value})
    assert repr(value) in str(refused.value)


def test_without_timm_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm.*pip install timm.*every client"):
        _build("timm:resnet18", seed=5)


def test_timms_are_made_for_the_size_that_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create_model(name: str, **keys: object) -> nn.Module:
        asked.append((name, keys))
        return resnet18(num_classes=7)

    timm = ModuleType("timm")
    expects = SimpleNamespace(mean=(0.5,) * 3, std=(0.25,) * 3, fixed_input_size=True)
    parts = {
        "is_model": lambda name: name == "vit",
        "list_models": lambda pretrained: ["vit"],
        "create_model": create_model,
        "models": SimpleNamespace(get_pretrained_cfg=lambda name: expects),
    }
    for name, part in parts.items():
        setattr(timm, name, part)
    monkeypatch.setitem(sys.modules, "timm", timm)
    model = _build("timm:vit", seed=6, input_size=48)
    assert asked == [("vit", {"num_classes": 7, "img_size": 48})]
    assert model.get_buffer("std").flatten().tolist() == [0.25] * 3
    with pytest.raises(ConfigError, match=r"timm has no classifier 'vot' \(did you mean 'vit'"):
        _build("timm:vot", seed=6)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vit_tiny_patch16_224"])
def test_timm_itself(name: str) -> None:
    pytest.importorskip("timm")
    model = _build(f"timm:{name}").eval()
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert not batch_norms(model)


def test_a_batch_norm_of_two_names_is_replaced_in_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), self.norm)

    module = without_batch_norm(Twice(), AsGroupNorm)
    assert not batch_norms(module)
    assert module.norm is module.body[1]  # type: ignore[union-attr,index]
