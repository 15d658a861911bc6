"""FID and KID: right by their equations, alike in classes, silent where images are few."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from regl_app.config.sections import ModelConfig
from regl_app.core.errors import ConfigError
from regl_app.data.images import ImageSet
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.supplement.distance_features import distance_features
from regl_app.supplement.image_distance import LEAST_KID, measure_distances

SIDE = 4


def _gaussian(counts: list[int], seed: int, middle: float = 120.0) -> ImageSet:
    random = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.randn(len(labels), 1, SIDE, SIDE, generator=random) * 20 + middle
    # Classes differ, as those of pictures do.
    images = images + 10 * labels[:, None, None, None]
    return ImageSet(images.clamp(0, 255).to(torch.uint8), labels)


def _two_pixels(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, :2].float() / 20


def test_fid_of_a_shift_is_its_square() -> None:
    made, real = _gaussian([4000], 0), _gaussian([4000], 1, 140.0)
    found = measure_distances(made, real, _two_pixels)
    # Two features, each moved by one standard deviation: |mu - mu'|^2 = 2.
    assert found["fid"] == pytest.approx(2.0, abs=0.1)
    assert found["kid"] > 0.05


def test_kid_is_the_unbiased_estimate_of_its_equation() -> None:
    made, real = _gaussian([60], 0), _gaussian([60], 1, 125.0)
    x, y = _two_pixels(made.images).double(), _two_pixels(real.images).double()

    def kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one @ other.T / 2 + 1) ** 3

    n = len(x)
    within = [k.sum() - k.diagonal().sum() for k in (kernel(x, x), kernel(y, y))]
    expected = sum(within) / (n * (n - 1)) - 2 * kernel(x, y).mean()
    found = measure_distances(made, real, _two_pixels)
    assert found["kid"] == pytest.approx(float(expected), rel=1e-5)


def test_more_images_of_one_class_are_no_distance() -> None:
    found = [
        measure_distances(_gaussian([600, 60], seed), _gaussian([60, 600], 50 + seed), _two_pixels)
        for seed in range(6)
    ]
    alike = sum(each["kid"] for each in found) / len(found)
    apart = measure_distances(_gaussian([120, 0], 3), _gaussian([120], 4, 130.0), _two_pixels)
    assert abs(alike) < apart["kid"] / 4


def test_classes_that_only_one_side_has_are_left_out() -> None:
    made, real = _gaussian([0, 100, 100], 0), _gaussian([100, 100], 1)
    only = made.subset(torch.nonzero(made.labels == 1).flatten())
    assert measure_distances(made, real, _two_pixels) == measure_distances(
        only, real.subset(torch.nonzero(real.labels == 1).flatten()), _two_pixels
    )


@pytest.mark.parametrize(
    ("count", "names"),
    [(0, set()), (LEAST_KID - 1, set()), (LEAST_KID, {"kid"}), (SIDE**2 * 4 + 1, {"kid", "fid"})],
)
def test_too_few_images_are_no_number(count: int, names: set[str]) -> None:
    def embed(images: torch.Tensor) -> torch.Tensor:
        assert count >= LEAST_KID, "what is not used is not computed"
        return images.flatten(1).repeat(1, 4).float()  # 64 features

    found = measure_distances(_gaussian([count], 0), _gaussian([200], 1), embed)
    assert set(found) == names


def test_the_same_images_give_the_same_numbers_and_no_random_state_is_read() -> None:
    state = torch.get_rng_state()
    found, again = (
        measure_distances(_gaussian([1500], 0), _gaussian([1500], 1), _two_pixels) for _ in range(2)
    )
    assert found == again
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return build_model(ModelConfig(name="cnn", width=4), 3, 1, 16, 0)


def test_the_run_s_classifier_is_a_feature_extractor(classifier: Classifier) -> None:
    images = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    found = distance_features("classifier", classifier, "cpu")(images)
    assert found.shape == (3, classifier.head.in_features)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    model = inception_v3(weights=None, init_weights=False, aux_logits=True).eval()
    file = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file(model.state_dict(), file)
    return file, model


def test_torchvision_s_inception_is_read_from_a_file(
    inception: tuple[Path, torch.nn.Module], classifier: Classifier
) -> None:
    file, model = inception
    images = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    found = distance_features(str(file), classifier, "cpu")(images)
    model.fc = torch.nn.Identity()
    shown = images.float().expand(-1, 3, -1, -1) / 127.5 - 1
    shown = torch.nn.functional.interpolate(shown, size=299, mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = model(shown)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, expected)


def test_another_file_of_the_same_name_is_read(
    inception: tuple[Path, torch.nn.Module], classifier: Classifier, tmp_path: Path
) -> None:
    weights = load_file(inception[0])
    file = tmp_path / "weights.safetensors"
    images = torch.randint(0, 256, (1, 1, 16, 16), dtype=torch.uint8)
    save_file(weights, file)
    before = distance_features(str(file), classifier, "cpu")(images)
    name = "Mixed_7c.branch_pool.bn.bias"
    save_file(weights | {name: weights[name] + 1}, file)
    assert not torch.equal(distance_features(str(file), classifier, "cpu")(images), before)


@pytest.mark.parametrize("kind", ["absent", "text", "other"])
def test_a_file_that_is_no_inception_is_refused_with_the_remedy(
    kind: str, tmp_path: Path, classifier: Classifier
) -> None:
    file = tmp_path / "weights.safetensors"
    if kind == "text":
        file.write_text("hello")
    if kind == "other":
        save_file({"conv.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(ConfigError, match=r"supplement.distance=.*save_file"):
        distance_features(str(file), classifier, "cpu")


def test_without_its_package_the_published_inception_is_named(
    monkeypatch: pytest.MonkeyPatch, classifier: Classifier
) -> None:
    monkeypatch.setattr("torchmetrics.image.fid._TORCH_FIDELITY_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"regl-app\[fid\]"):
        distance_features("torch-fidelity", classifier, "cpu")
