from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from regl_app.config.sections import ModelConfig
from regl_app.data.images import ImageSet
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.supplement.image_quality import LEAST, ImageQuality, is_measured, measure_quality

CLASSES, SIDE = 3, 16


def _untrained(name: str) -> Classifier:
    return build_model(ModelConfig(name=name, width=4), CLASSES, 1, SIDE, 0)


@pytest.fixture(scope="module")
def embedding() -> Classifier:
    return _untrained("cnn")


class _Brightness(Classifier):
    """Reads an image by its brightness: a third of the range for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, CLASSES)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middles = torch.tensor([-2 / 3, 0.0, 2 / 3])
        return -(self.features(x) - middles).abs()


READER = _Brightness()


def _drawn(counts: list[int], seed: int) -> ImageSet:
    """Return smooth random pictures, a third of the brightness for each class."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    coarse = torch.rand(len(labels), 1, 4, 4, generator=random)
    images = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear")
    images = (images + labels[:, None, None, None]) * 255 / len(counts)
    return ImageSet(images.to(torch.uint8), labels)


def _measure(made: ImageSet, train: ImageSet, embedding: Classifier) -> ImageQuality:
    nothing = ImageSet.empty(made.shape)
    return measure_quality(made, train, nothing, embedding, READER, "cpu")


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_new_images_of_the_same_kind_are_like_real_ones(name: str) -> None:
    embedding = _untrained(name)
    found = [
        _measure(_drawn([60, 60, 0], 100 + seed), _drawn([60, 60, 0], seed), embedding)
        for seed in range(6)
    ]
    for measure, expected, within in (
        ("fidelity", 1.0, 0.1),
        ("diversity", 1.0, 0.1),
        ("near_copies", 0.1, 0.04),
        ("reading", 1.0, 0.0),
    ):
        values = np.array([getattr(each, measure)[:2] for each in found])
        assert values.mean() == pytest.approx(expected, abs=within), measure
        assert all(math.isnan(getattr(each, measure)[2]) for each in found)
    assert found[0].images.tolist() == [60, 60, 0]


def test_copies_are_told_also_under_the_name_of_a_class_that_the_client_lacks(
    embedding: Classifier,
) -> None:
    train = _drawn([40, 0, 0], 0)
    made = ImageSet(train.images[:30], torch.tensor([0] * 15 + [1] * 15))
    found = _measure(made, train, embedding)
    assert found.near_copies[:2].tolist() == [1.0, 1.0]
    assert found.reading[:2].tolist() == [1.0, 0.0]  # they show class 0
    assert math.isnan(found.fidelity[1])
    assert math.isnan(found.diversity[1])


def test_copies_of_a_class_with_few_images_are_not_told(embedding: Classifier) -> None:
    train = _drawn([40, 10, 0], 0)
    found = _measure(_drawn([20, 20, 20], 1), train, embedding)
    assert np.isnan(found.near_copies).tolist() == [False, True, False]


def test_a_generator_that_draws_one_image_has_no_diversity(embedding: Classifier) -> None:
    one = _drawn([1, 0, 0], 5)
    made = ImageSet(one.images.expand(30, -1, -1, -1), one.labels.expand(30))
    found = _measure(made, _drawn([40, 0, 0], 0), embedding)
    assert found.diversity[0] == pytest.approx(0, abs=1e-6)


def test_noise_is_like_no_real_image(embedding: Classifier) -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (30, 1, SIDE, SIDE), dtype=torch.uint8, generator=random)
    made = ImageSet(noise, torch.zeros(30, dtype=torch.int64))
    assert _measure(made, _drawn([40, 0, 0], 0), embedding).fidelity[0] < 0.05


@pytest.mark.parametrize(("real", "made"), [(LEAST - 1, 40), (40, LEAST - 1)])
def test_too_few_images_of_a_class_are_not_measured(
    real: int, made: int, embedding: Classifier
) -> None:
    found = _measure(_drawn([made, 20, 0], 1), _drawn([real, 20, 0], 0), embedding)
    assert math.isnan(found.fidelity[0])
    assert math.isnan(found.diversity[0])
    assert math.isfinite(found.fidelity[1])
    assert found.reading[0] == 1.0


def test_nothing_is_measured_of_nothing(embedding: Classifier) -> None:
    found = _measure(ImageSet.empty((1, SIDE, SIDE)), _drawn([40, 0, 0], 0), embedding)
    assert found.images.sum() == 0
    assert found.overall() == {}
    without = _measure(_drawn([20, 20, 20], 0), ImageSet.empty((1, SIDE, SIDE)), embedding)
    assert set(without.overall()) == {"reading"}


def test_the_work_is_bounded_and_the_same_every_time(embedding: Classifier) -> None:
    made, train = _drawn([300, 150, 10], 1), _drawn([300, 150, 10], 0)
    found, again = (_measure(made, train, embedding) for _ in range(2))
    assert found.images.tolist() == [100, 100, 10]
    for name in ("reading", "fidelity", "diversity", "near_copies"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))


def test_the_global_random_state_is_left_alone(embedding: Classifier) -> None:
    state = torch.get_rng_state()
    _measure(_drawn([300, 20, 0], 1), _drawn([300, 20, 0], 0), embedding)
    assert torch.equal(torch.get_rng_state(), state)


def test_all_images_together_are_the_mean_over_those_that_were_measured() -> None:
    nan = math.nan
    quality = ImageQuality(
        np.array([30, 10, 0]),
        np.array([0.5, 1.0, nan]),
        np.array([0.8, nan, nan]),
        np.full(3, nan),
        np.array([0.0, 0.2, nan]),
    )
    assert quality.overall() == pytest.approx(
        {"reading": 0.625, "fidelity": 0.8, "near_copies": 0.05}
    )


def test_rounds_that_measure_become_rare() -> None:
    assert [number for number in range(1, 40) if is_measured(number)] == [1, 2, 4, 8, 16, 32]
