"""What the server finds out about uploaded models, and gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.data.images import ImageSet
from regl_app.data.source import Source
from regl_app.evaluation.predict import predict_log_probs
from regl_app.models.build import build_model
from regl_app.models.classifier import Classifier
from regl_app.protocol import TrainReply
from regl_app.supplement.discrepancy import class_discrepancy
from server_app.supplier import Supplier, mean_weights

CPU = torch.device("cpu")


@pytest.fixture
def config(second_pipeline: Path) -> RunConfig:
    return RunConfig.from_flat(
        {
            "method": "feddpd",
            "supplement.adapter": "frozen",
            "supplement.cap": 4,
            "supplement.ratio": 1.0,
            "pool.per-class": 6,
            "generator.path": str(second_pipeline),
            "generator.steps": 2,
            "probe.per-class": 2,
            "model.width": 4,
        }
    )


def model(config: RunConfig, seed: int) -> Classifier:
    return build_model(config.model, 3, 1, 16, seed)


def reply(config: RunConfig, partition_id: int, examples: int = 8) -> TrainReply:
    weights = model(config, partition_id + 1).state_dict()
    return TrainReply(partition_id, 1, examples, examples, 0.1, weights)


def make(config: RunConfig, cache: Path) -> Supplier:
    nothing = ImageSet.empty((1, 16, 16))
    names = ("zero", "one", "two")
    concepts = tuple(f"the digit {name}" for name in names)
    source = Source("digits", nothing, nothing, names, concepts)
    return Supplier(config, source, model(config, 0), device=CPU, cache_dir=cache)


def test_discrepancies_and_choices_are_those_of_each_model_alone(
    config: RunConfig, tmp_path: Path
) -> None:
    supplier = make(config, tmp_path)
    replies = {key: reply(config, key) for key in (0, 3)}
    whole = model(config, 0).state_dict()
    given = supplier.supply(1, whole, replies)
    probe = supplier._synthesizer.probe()
    for key, each in given.items():
        local = model(config, key + 1)
        expected = class_discrepancy(
            predict_log_probs(model(config, 0), probe.images, CPU).numpy(),
            predict_log_probs(local, probe.images, CPU).numpy(),
            probe.labels.numpy(),
            3,
        )
        np.testing.assert_allclose(each.discrepancy, expected, atol=1e-5)
        assert each.quotas.sum() == 8
        np.testing.assert_array_equal(each.supply.images.counts(3), each.quotas)
    alone = make(config, tmp_path).supply(1, whole, {3: replies[3]})
    assert torch.equal(alone[3].supply.images.images, given[3].supply.images.images)


def test_a_reply_without_a_model_is_given_nothing(config: RunConfig, tmp_path: Path) -> None:
    empty = TrainReply(1, 1, 0, 0, 0.0, None)
    replies = {0: reply(config, 0), 1: empty}
    given = make(config, tmp_path).supply(1, model(config, 0).state_dict(), replies)
    assert set(given) == {0}
    assert mean_weights(replies).keys() == model(config, 0).state_dict().keys()


def test_the_mean_weighs_models_by_their_images(config: RunConfig) -> None:
    one, other = reply(config, 0, 1), reply(config, 1, 3)
    found = mean_weights({0: one, 1: other})
    assert one.weights is not None
    assert other.weights is not None
    for name, value in found.items():
        torch.testing.assert_close(value, 0.25 * one.weights[name] + 0.75 * other.weights[name])


def test_tuning_lowers_the_loss_on_what_was_chosen(config: RunConfig, tmp_path: Path) -> None:
    steps = config.updated({"server.tune-steps": 30, "train.optimizer": "adam"})
    supplier = make(steps, tmp_path)
    replies = {0: reply(config, 0)}
    given = supplier.supply(1, model(config, 0).state_dict(), replies)
    images = given[0].supply.images
    tuned = supplier.tune(1, replies, given)

    def loss(weights: object) -> float:
        local = model(config, 0)
        local.load_state_dict(weights)  # type: ignore[arg-type]
        scores = predict_log_probs(local, images.images, CPU)
        return float(-scores.gather(1, images.labels[:, None]).mean())

    assert loss(tuned[0]) < loss(replies[0].weights)
    assert "tune" in supplier.seconds
