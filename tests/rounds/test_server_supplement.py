"""What the server finds out about uploaded models, and gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.choices import METHODS
from regl_app.core.types import Weights
from regl_app.data.images import ImageSet
from regl_app.data.source import Source
from regl_app.flower.messages.train import TrainReply
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.methods.method import Batch, Local, Method
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.averaging import mean_weights
from regl_app.rounds.server_supplement import ServerSupplement
from regl_app.supplement.discrepancy import class_discrepancy
from regl_app.supplement.synthesizer import Synthesizer

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


def make(config: RunConfig, cache: Path) -> ServerSupplement:
    nothing = ImageSet.empty((1, 16, 16))
    names = ("zero", "one", "two")
    concepts = tuple(f"the digit {name}" for name in names)
    source = Source("digits", nothing, nothing, names, concepts)
    synthesizer = Synthesizer.of(config, source, CPU, cache)
    return ServerSupplement(config, model(config, 0), synthesizer, device=CPU)


def test_discrepancies_and_choices_are_those_of_each_model_alone(
    config: RunConfig, tmp_path: Path
) -> None:
    supplement = make(config, tmp_path)
    replies = {key: reply(config, key) for key in (0, 3)}
    whole = model(config, 0).state_dict()
    assert supplement.screen(replies) == set()
    given = supplement.make(1, whole, replies)
    probe = supplement._synthesizer.probe()
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
        np.testing.assert_array_equal(each.supplement.images.counts(3), each.quotas)
    other = make(config, tmp_path)
    other.screen({3: replies[3]})
    alone = other.make(1, whole, {3: replies[3]})
    assert torch.equal(alone[3].supplement.images.images, given[3].supplement.images.images)


def test_a_reply_without_a_model_is_given_nothing(config: RunConfig, tmp_path: Path) -> None:
    empty = TrainReply(1, 1, 0, 0, 0.0, None)
    replies = {0: reply(config, 0), 1: empty}
    supplement = make(config, tmp_path)
    assert supplement.screen(replies) == set()
    given = supplement.make(1, model(config, 0).state_dict(), replies)
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
    supplement = make(steps, tmp_path)
    replies = {0: reply(config, 0)}
    supplement.screen(replies)
    given = supplement.make(1, model(config, 0).state_dict(), replies)
    images = given[0].supplement.images
    tuned = supplement.tune(1, replies, given)

    def loss(weights: Weights | None) -> float:
        local = model(config, 0)
        local.load_state_dict(dict(weights or {}))
        scores = predict_log_probs(local, images.images, CPU)
        return float(-scores.gather(1, images.labels[:, None]).mean())

    assert loss(tuned[0]) < loss(replies[0].weights)
    assert "tune" in supplement.seconds


def test_a_method_sees_that_the_servers_images_are_synthetic(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    class Watching(Method):
        def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
            seen.append(bool(batch.synthetic.all()) and local.real_counts.sum() == 0)
            return super().loss(model, batch, local)

    monkeypatch.setattr("regl_app.learning.methods.registry.method_class", lambda _: Watching)
    supplement = make(config, tmp_path)
    replies = {0: reply(config, 0)}
    supplement.screen(replies)
    supplement.tune(1, replies, supplement.make(1, model(config, 0).state_dict(), replies))
    assert seen
    assert all(seen)


@pytest.mark.parametrize(
    "name", [name for name, each in METHODS.items() if each.shares_whole_model]
)
def test_uploads_are_tuned_under_every_method(config: RunConfig, name: str, tmp_path: Path) -> None:
    own = config.updated({"labels.by": "hard", "objective": name, "server.tune-steps": 1})
    supplement = make(own, tmp_path)
    replies = {0: reply(own, 0)}
    supplement.screen(replies)
    given = supplement.make(1, model(own, 0).state_dict(), replies)
    assert set(supplement.tune(1, replies, given)) == {0}


def test_a_model_that_answers_no_numbers_is_found_out(config: RunConfig, tmp_path: Path) -> None:
    sound, broken = reply(config, 0), reply(config, 1)
    assert broken.weights is not None
    for value in broken.weights.values():  # finite, so the protocol lets it pass
        value.fill_(1e38)
    supplement = make(config, tmp_path)
    assert supplement.screen({0: sound, 1: broken}) == {1}
    assert set(supplement.make(1, model(config, 0).state_dict(), {0: sound})) == {0}


def test_a_model_that_diverges_in_tuning_stays_as_it_came(
    config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = config.updated({"server.tune-lr": 1e30, "train.clip-norm": 0.0, "server.tune-steps": 5})
    supplement = make(wild, tmp_path)
    replies = {0: reply(config, 0)}
    supplement.screen(replies)
    given = supplement.make(1, model(config, 0).state_dict(), replies)
    assert supplement.tune(1, replies, given) == {}
    assert "lower server.tune-lr" in caplog.text


def test_every_client_is_tuned_as_often_as_configured_whenever_it_takes_part(
    config: RunConfig, tmp_path: Path
) -> None:
    keys = {"supplement.adapter": "dpo", "dpo.rounds": 1, "dpo.steps": 1, "dpo.batch-size": 2}
    supplement = make(config.updated(keys), tmp_path)
    whole, steps = model(config, 0).state_dict(), []
    for number, clients in enumerate(((0,), (0,), (1,)), start=1):
        replies = {key: reply(config, key) for key in clients}
        supplement.screen(replies)
        for each in supplement.make(number, whole, replies).values():
            steps.append(each.supplement.facts["adapter_steps"])
            assert each.supplement.adapter_state.preferred
    assert steps == [1, 0, 1]
