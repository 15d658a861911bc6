"""Golden values of the metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from regl_app.config.sections import ModelConfig
from regl_app.core.errors import DataError
from regl_app.data.images import ImageSet, to_float
from regl_app.learning.evaluation.features import features
from regl_app.learning.evaluation.metrics import Metrics, evaluate, predict_log_probs, score
from regl_app.learning.models import build_model


def _log_probs(*predicted: int, classes: int = 4, confidence: float = 0.7) -> torch.Tensor:
    probabilities = torch.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    probabilities[torch.arange(len(predicted)), torch.tensor(predicted)] = confidence
    return probabilities.log()


def test_golden_values() -> None:
    # class 0: 2 of 3 right; class 1: 1 of 1 right, once predicted wrongly; class 2: 0 of 1
    # right (taken for class 3); class 3 is absent from the labels, though predicted.
    metrics = score(_log_probs(0, 0, 1, 1, 3), torch.tensor([0, 0, 0, 1, 2]), 4)
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.per_class == pytest.approx([2 / 3, 1.0, 0.0, None])
    f1 = [2 * 2 / (2 * 2 + 0 + 1), 2 * 1 / (2 * 1 + 1 + 0), 0.0]
    assert metrics.macro_f1 == pytest.approx(sum(f1) / 3)
    assert metrics.loss == pytest.approx(-(3 * math.log(0.7) + 2 * math.log(0.1)) / 5)
    assert metrics.images == 5


def test_no_images_give_zeros_and_no_class() -> None:
    model = build_model(ModelConfig(width=8), 3, 1, 16, 0)
    empty = ImageSet.empty((1, 16, 16))
    assert evaluate(model, empty, 3, "cpu") == Metrics(0.0, 0.0, 0.0, [None] * 3, 0)
    assert predict_log_probs(model, empty.images, "cpu").shape == (0, 3)
    assert features(model, empty, "cpu").shape == (0, 512)


def test_shapes_must_fit() -> None:
    with pytest.raises(DataError, match=r"must have shape \(2, 3\), got \(2, 4\)"):
        score(_log_probs(0, 1), torch.tensor([0, 1]), 3)


def _images(count: int = 7) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8),
        torch.arange(count) % 3,
    )


def test_prediction_is_log_softmax_whatever_the_batch_size() -> None:
    model = build_model(ModelConfig(width=8), 3, 1, 16, 0)
    data = _images()
    one = predict_log_probs(model, data.images, "cpu", batch_size=2)
    assert one.dtype == torch.float32
    assert torch.allclose(one.exp().sum(dim=1), torch.ones(7))
    with torch.no_grad():
        expected = torch.log_softmax(model(to_float(data.images)), dim=1)
    assert torch.allclose(one, expected, atol=1e-5)
    assert evaluate(model, data, 3, "cpu", 2).accuracy == evaluate(model, data, 3, "cpu").accuracy


def test_prediction_evaluates_and_restores_the_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(256, 3))
    model.train()
    data = _images()
    assert torch.equal(
        predict_log_probs(model, data.images, "cpu"), predict_log_probs(model, data.images, "cpu")
    )
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_features_feed_the_head() -> None:
    model = build_model(ModelConfig(width=8), 3, 1, 16, 0)
    points = features(model, _images(), "cpu", batch_size=3)
    assert points.shape == (7, 512) and points.dtype == np.float32
    with torch.no_grad():
        logits = model.head(torch.from_numpy(points))
    expected = predict_log_probs(model, _images().images, "cpu")
    assert torch.allclose(torch.log_softmax(logits, dim=1), expected, atol=1e-5)
