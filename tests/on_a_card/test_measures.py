"""What is measured of models and images on a pretended card is the processor's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.core.digests import digest_of_tensors
from regl_app.core.finite import not_finite
from regl_app.core.global_random import drawing_from
from regl_app.core.tensor_files import load_tensors, save_tensors
from regl_app.core.transfer import to_device
from regl_app.data.images import ImageSet
from regl_app.data.resize import fit, fit_floats
from regl_app.flower.messages.weights import weights_from_record, weights_to_record
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.runs.trained import deployable
from regl_app.runs.trained.deployable import Deployable, Format, export_model
from regl_app.runs.trained.model import TrainedModel
from regl_app.supplement.batched_scoring import score_models
from regl_app.supplement.distance_features import distance_features
from regl_app.supplement.image_distance import measure_distances
from regl_app.supplement.image_quality import MEASURES, measure_quality


def model(seed: int = 0) -> Classifier:
    return build_model(ModelConfig(width=4), 3, 1, 16, seed)


def images(count: int, seed: int = 0, channels: int = 1) -> ImageSet:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=random)
    pixels = torch.nn.functional.interpolate(coarse, size=16, mode="bilinear") * 255
    return ImageSet(pixels.to(torch.uint8), torch.arange(count) % 3)


@pytest.mark.parametrize("batched", [False, None])
def test_models_that_lie_here_and_there_are_scored(
    card: torch.device, batched: bool | None
) -> None:
    models = [model(seed) for seed in range(3)]
    expected = [predict_log_probs(each, images(7).images, "cpu") for each in models]
    models[1].to(card)
    states = [each.state_dict() for each in models]
    found = score_models(states, models[0], images(7).images, card, batched=batched)
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)


def test_image_quality_and_distances(card: torch.device) -> None:
    made, train, held_out = images(90, 0), images(90, 1), images(30, 2)
    found = []
    for device in (torch.device("cpu"), card):
        quality = measure_quality(made, train, held_out, model(), model(1), device)
        embed = distance_features("classifier", model(), device)
        found.append((quality, measure_distances(made, train, embed)))
    (one, near), (other, near_there) = found
    for name in MEASURES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert near == near_there and set(near) == {"kid"}


def test_a_runs_model_predicts_there_and_is_exported_from_the_processor(
    tmp_path: Path, card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig.from_flat({"data.image-size": 16, "model.width": 4})
    trained = TrainedModel(model().eval(), tuple("abc"), 1, 16, config, 2)
    expected = trained.log_probs(images(5, channels=3))
    assert torch.equal(trained.log_probs(images(5, channels=3), card), expected)
    written: list[Deployable] = []

    def write(model: Deployable, *told: Any) -> None:
        written.append(model)
        told[-1].touch()

    form = Format(
        "model.x", write, lambda _: written[0]
    )  # no tracer sees through what is pretended
    monkeypatch.setattr(deployable, "FORMATS", {"x": form})
    _, apart = export_model(trained, "x", tmp_path)
    assert apart == 0 and {each.device.type for each in written[0].parameters()} == {"cpu"}


def test_tensors_of_a_card_are_stored_sent_and_told_apart(
    tmp_path: Path, card: torch.device
) -> None:
    plain = {"a": torch.randn(3, 2), "b": torch.arange(4)}
    there = {name: value.to(card) for name, value in plain.items()}
    save_tensors(tmp_path / "x.safetensors", there)
    stored = load_tensors(tmp_path / "x.safetensors") or {}
    sent = weights_from_record(weights_to_record(there), plain)
    for name, value in plain.items():
        assert torch.equal(stored[name], value) and torch.equal(sent[name], value)
    assert digest_of_tensors(there.items()) == digest_of_tensors(plain.items())
    assert not_finite(there) is None and not_finite({"x": there["a"] / 0}) == "x"


def test_pictures_are_resized_there(card: torch.device) -> None:
    pixels = images(2, channels=3).images
    assert torch.equal(fit(pixels.to(card), (1, 8, 8)).cpu(), fit(pixels, (1, 8, 8)))
    floats = pixels.float() / 255
    assert torch.equal(fit_floats(floats.to(card), (1, 8, 8)).cpu(), fit_floats(floats, (1, 8, 8)))


def test_what_is_sent_arrives(card: torch.device) -> None:
    tensor = torch.arange(1000.0)
    arrived = to_device(tensor, card)
    tensor.zero_()
    assert arrived.device == card and torch.equal(arrived.cpu(), torch.arange(1000.0))
    assert to_device(arrived, card) is arrived


def test_what_knows_the_global_state_alone_draws_the_same_again(card: torch.device) -> None:
    here, there, drawn = torch.get_rng_state(), torch.cuda.get_rng_state(), []
    for _ in range(2):
        with drawing_from(3, card):
            drawn.append((torch.rand(5, device=card).tolist(), torch.rand(5).tolist()))
        torch.rand(1, device=card)
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), here)
    assert not torch.equal(torch.cuda.get_rng_state(), there)  # by what drew in between alone
    with drawing_from(3):  # of the processor
        assert torch.rand(5, device=card).tolist() != drawn[0][0]
