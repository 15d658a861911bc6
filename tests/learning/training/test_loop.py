"""Local training: learns, repeats itself, and leaves a client without images alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.core import precision
from regl_app.core.types import Scalar
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.metrics import evaluate
from regl_app.learning.methods import make_objective
from regl_app.learning.models import Classifier, build_model
from regl_app.learning.training import loop
from regl_app.learning.training.loop import TrainResult, train_local


def _config(**changes: Scalar) -> RunConfig:
    defaults: dict[str, Scalar] = {
        "method": "fedavg",
        "model.width": 8,
        "data.image-size": 16,
    }
    return RunConfig.from_flat(
        defaults
        | {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
    )


def _toy(count: int = 40) -> ImageSet:
    """Two classes: dark and bright images with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 60, (count, 1, 16, 16), generator=generator)
    return ImageSet((noise + 150 * labels[:, None, None, None]).to(torch.uint8), labels)


def _model(config: RunConfig) -> Classifier:
    return build_model(config.model, 10, 1, config.data.image_size, 0)


def _train(config: RunConfig, data: ImageSet, seed: int = 0) -> tuple[Classifier, TrainResult]:
    model = _model(config)
    objective = make_objective(config)
    return model, train_local(model, data, config, objective=objective, seed=seed, device="cpu")


def _same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns() -> None:
    config = _config(train__steps=30)
    model, result = _train(config, _toy())
    assert (result.steps, result.images) == (30, 40)
    assert 0 < result.loss < 2
    assert evaluate(model, _toy(), 10, "cpu").accuracy > 0.95


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_seed_gives_the_same_weights(optimizer: str) -> None:
    config = _config(train__steps=5, train__optimizer=optimizer, train__augment=True)
    torch.manual_seed(1)
    one, first = _train(config, _toy())
    torch.manual_seed(2)
    two, second = _train(config, _toy())
    other, _ = _train(config, _toy(), seed=1)
    assert _same(one, two) and first.loss == second.loss
    assert not _same(one, other)


def test_augmentation_changes_training() -> None:
    plain, _ = _train(_config(train__steps=3), _toy())
    shifted, _ = _train(_config(train__steps=3, train__augment=True), _toy())
    assert not _same(plain, shifted)


def test_without_images_nothing_changes() -> None:
    config = _config()
    model, result = _train(config, ImageSet.empty((1, 16, 16)))
    assert (result.loss, result.steps, result.images) == (0.0, 0, 0)
    assert _same(model, _model(config))


def test_one_image_is_enough() -> None:
    model, result = _train(_config(train__steps=3), _toy(1))
    assert (result.steps, result.images) == (3, 1)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_epochs_count_steps() -> None:
    _, result = _train(_config(train__steps=0, train__epochs=3), _toy(40))
    assert result.steps == 6  # 40 images are two batches of at most 32


def test_progress_is_told_after_each_step() -> None:
    config = _config(train__steps=4)
    told: list[tuple[int, int]] = []
    train_local(
        _model(config),
        _toy(),
        config,
        objective=make_objective(config),
        seed=0,
        device="cpu",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_clipping_bounds_the_first_step() -> None:
    config = _config(train__steps=1, train__clip_norm=0.01, train__lr=1.0, train__weight_decay=0.0)
    model, _ = _train(config, _toy())
    pairs = zip(model.parameters(), _model(config).parameters(), strict=True)
    moved = torch.stack([(a - b).square().sum() for a, b in pairs]).sum().sqrt().detach()
    assert float(moved) == pytest.approx(0.01, rel=0.01)


def test_a_stronger_proximal_term_keeps_nearer_to_the_global_model() -> None:
    def distance(mu: float) -> float:
        config = _config(method="fedprox", train__steps=10, train__proximal=mu)
        model, _ = _train(config, _toy())
        pairs = zip(model.parameters(), _model(config).parameters(), strict=True)
        return float(torch.stack([(a - b).square().sum() for a, b in pairs]).sum().detach())

    assert distance(5.0) < distance(0.0)


def test_weights_keep_the_layout_safetensors_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (False, True):
        monkeypatch.setattr(precision, "trains_fast_in_bf16", lambda device, fast=fast: fast)
        model, _ = _train(_config(train__steps=1), _toy())
        assert all(value.is_contiguous() for value in model.state_dict().values())


def test_bf16_arithmetic_learns_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(train__steps=30)
    weights = {}
    for fast in (False, True):
        monkeypatch.setattr(loop, "trains_fast_in_bf16", lambda device, fast=fast: fast)
        model, _ = _train(config, _toy())
        assert evaluate(model, _toy(), 10, "cpu").accuracy > 0.95
        weights[fast] = copy.deepcopy(model)
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not _same(weights[False], weights[True])


def test_centralized_digits_are_learnt() -> None:
    """300 steps reach 0.97; 500 at 32x32 reach 0.98 (benchmarks)."""
    config = RunConfig.from_flat({"method": "central", "train.steps": 300, "data.image-size": 16})
    federation = Federation.load(config, 10)
    model, _ = _train(config, federation.client(0).train)
    assert evaluate(model, federation.source.test, 10, "cpu").accuracy > 0.95
