"""Golden values of the local learning rules."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.choices import METHODS
from regl_app.config.sections import TrainConfig
from regl_app.core.errors import RunError
from regl_app.data.images import ImageSet
from regl_app.learning.methods import (
    Batch,
    Local,
    Method,
    make_method,
    make_objective,
    method_class,
)
from regl_app.learning.methods.fedrep import FedRep
from regl_app.learning.methods.moon import Moon
from regl_app.learning.methods.scaffold import Scaffold, displacement
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import TrainResult, train_local


def _linear() -> nn.Module:
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    return nn.Sequential(nn.Flatten(), layer)


IMAGES = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 3.0]]]])  # logits (1, 0) and (0, 3)
LABELS = torch.tensor([0, 0])
BATCH = Batch(IMAGES, LABELS, torch.zeros(2, dtype=torch.bool))
CROSS_ENTROPY = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 2
COUNTS = np.array([2, 0])


def _local(model: nn.Module, **tensors: dict[str, torch.Tensor]) -> Local:
    return Local(model, COUNTS, COUNTS, **tensors)


class _Scaled(Classifier):
    """Features are the images times a weight, logits the features."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([scale, 1.0]))
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(2))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) * self.scale


def test_fedavg_is_mean_cross_entropy() -> None:
    method = make_method(RunConfig.from_flat({"method": "fedavg"}))
    model = _linear()
    local = _local(model)
    assert float(method.loss(model, BATCH, local).detach()) == pytest.approx(CROSS_ENTROPY)
    assert "global_model" not in vars(local), "a copy that nobody asked for"


def test_fedprox_adds_half_mu_times_squared_distance() -> None:
    method = make_method(RunConfig.from_flat({"method": "fedprox", "train.proximal": 0.1}))
    model = _linear()
    local = _local(model)
    assert local.global_model is not model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(torch.tensor([[1.0, -2.0], [0.0, 0.5]]))
    moved = Method(TrainConfig()).loss(model, BATCH, local)
    loss = method.loss(model, BATCH, local)
    assert float((loss - moved).detach()) == pytest.approx(0.1 / 2 * (1 + 4 + 0.25))


def test_fedprox_at_the_global_model_is_fedavg() -> None:
    method = make_method(RunConfig.from_flat({"method": "fedprox", "train.proximal": 5.0}))
    model = _linear()
    loss = method.loss(model, BATCH, _local(model))
    assert float(loss.detach()) == pytest.approx(CROSS_ENTROPY)


def test_the_global_model_can_only_be_copied_before_it_has_changed() -> None:
    local = _local(_linear())
    local.begun = True
    with pytest.raises(RunError, match=r"ask for local.global_model in its first step"):
        _ = local.global_model


def test_scaffold_corrects_gradients_by_the_controls() -> None:
    model = _linear()
    name = "1.weight"
    received, kept = torch.full((2, 2), 3.0), torch.full((2, 2), 0.5)
    local = _local(model, kept={name: kept}, received={name: received})
    parameter = dict(model.named_parameters())[name]
    parameter.grad = torch.ones(2, 2)
    Scaffold(TrainConfig()).after_backward(model, local)
    torch.testing.assert_close(parameter.grad, torch.full((2, 2), 1 - 0.5 + 3.0))


def test_scaffolds_new_control_is_option_two() -> None:
    train = TrainConfig(lr=0.1, momentum=0.0)
    model = _linear()
    name = "1.weight"
    c, c_i = torch.full((2, 2), 0.2), torch.full((2, 2), 0.7)
    local = _local(model, kept={name: c_i}, received={name: c})
    _ = local.global_model
    with torch.no_grad():
        dict(model.named_parameters())[name].sub_(0.6)  # x - y = 0.6
    kept, sent = Scaffold(train).finish(model, local, steps=4)
    torch.testing.assert_close(kept[name], torch.full((2, 2), 0.7 - 0.2 + 0.6 / (4 * 0.1)))
    torch.testing.assert_close(sent[name], kept[name] - c_i)
    assert kept.keys() == sent.keys() == Scaffold(train).template(model).keys()


def test_momentum_moves_a_weight_by_the_displacement() -> None:
    weight = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=0.05, momentum=0.9)
    for _ in range(7):
        weight.grad = torch.ones(())
        optimizer.step()
    assert -float(weight.detach()) == pytest.approx(displacement(0.05, 0.9, 7))
    assert displacement(0.1, 0.0, 5) == pytest.approx(0.5)


def test_scaffolds_server_adds_the_mean_change_of_all_clients() -> None:
    state = {"w": torch.tensor([1.0])}
    sent = {0: {"w": torch.tensor([2.0])}, 3: {"w": torch.tensor([-1.0])}}
    new = Scaffold(TrainConfig()).aggregate(state, sent, {0: 1.0, 3: 99.0}, num_clients=4)
    torch.testing.assert_close(new["w"], torch.tensor([1.0 + (2.0 - 1.0) / 4]))


def test_moon_contrasts_the_global_with_the_previous_model() -> None:
    train = TrainConfig(moon_mu=2.0, moon_temperature=0.5)
    model, previous = _Scaled(1.0), _Scaled(-1.0)
    local = _local(model, kept=dict(previous.state_dict()))
    loss = float(Moon(train).loss(model, BATCH, local).detach())
    # Image 1 has features (1, 0), before (-1, 0): similarities 1 and -1; image 2 has 1 and 1.
    contrast = (math.log(1 + math.exp((-1 - 1) / 0.5)) + math.log(2)) / 2
    assert loss == pytest.approx(CROSS_ENTROPY + 2.0 * contrast)


def test_moon_without_a_previous_model_is_fedavg() -> None:
    model = _Scaled(1.0)
    loss = Moon(TrainConfig()).loss(model, BATCH, _local(model))
    assert float(loss.detach()) == pytest.approx(CROSS_ENTROPY)


def test_fedrep_shares_the_body_and_trains_the_head_first() -> None:
    method = FedRep(TrainConfig(head_share=0.4))
    model = _Scaled(1.0)
    assert list(method.shared(list(model.state_dict()))) == ["scale"]
    for step in range(1, 6):
        chosen = list(method.trainable(model, step, 5))
        assert [each is model.head.weight for each in chosen] == [step <= 2]
    kept, sent = method.finish(model, _local(model), 5)
    assert set(kept) == {"head.weight"} and not sent


def _train(name: str, **tensors: dict[str, torch.Tensor]) -> tuple[Classifier, TrainResult]:
    config = RunConfig.from_flat(
        {"method": "fedavg", "objective": name, "train.steps": 4, "model.width": 4}
    )
    model = build_model(config.model, 3, 1, 16, 0)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 255, (20, 1, 16, 16), generator=generator).byte()
    data = ImageSet(images, torch.arange(20) % 3)
    result = train_local(
        model, data, config.train, method=make_method(config), seed=0, device="cpu", **tensors
    )
    return model, result


@pytest.mark.parametrize("name", ["scaffold", "moon"])
def test_without_a_past_a_method_is_fedavg_to_the_bit(name: str) -> None:
    plain, (own, _) = _train("fedavg")[0].state_dict(), _train(name)
    assert all(torch.equal(value, own.state_dict()[key]) for key, value in plain.items())


def test_a_step_moves_only_what_is_trainable() -> None:
    start = build_model(RunConfig.from_flat({"model.width": 4}).model, 3, 1, 16, 0).state_dict()
    model, result = _train("fedrep")
    end = model.state_dict()
    assert all(not torch.equal(start[key], end[key]) for key in end if end[key].ndim > 1)
    assert all(torch.equal(result.kept[key], end[key]) for key in result.kept)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_scaffold_keeps_does_not_change_afterwards() -> None:
    model, result = _train("scaffold")
    before = copy.deepcopy(dict(result.kept))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(result.kept[key], value) for key, value in before.items())


def test_every_objective_of_the_configuration_is_registered() -> None:
    for name in METHODS:
        assert isinstance(make_method(RunConfig.from_flat({"objective": name})), method_class(name))


def test_the_former_words_of_the_python_door_still_work() -> None:
    config = RunConfig.from_flat({"method": "fedprox", "train.steps": 2, "model.width": 4})
    data = ImageSet(torch.zeros((4, 1, 16, 16), dtype=torch.uint8), torch.arange(4) % 3)
    models = [build_model(config.model, 3, 1, 16, 0) for _ in range(2)]
    train_local(models[0], data, config, objective=make_objective(config), seed=0, device="cpu")
    train_local(models[1], data, config.train, method=make_method(config), seed=0, device="cpu")
    assert all(
        torch.equal(value, models[1].state_dict()[key])
        for key, value in models[0].state_dict().items()
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_table_says_which_methods_share_the_whole_model(name: str) -> None:
    names = list(build_model(RunConfig.from_flat({}).model, 3, 1, 16, 0).state_dict())
    method = make_method(RunConfig.from_flat({"method": "fedavg", "objective": name}))
    assert METHODS[name].shares_whole_model == (list(method.shared(names)) == names)


def test_two_names_for_one_method_are_refused() -> None:
    data = ImageSet(torch.zeros((2, 1, 16, 16), dtype=torch.uint8), torch.tensor([0, 1]))
    model, method = build_model(RunConfig.from_flat({}).model, 3, 1, 16, 0), Method(TrainConfig())
    with pytest.raises(ValueError, match="two names of one thing"):
        train_local(
            model, data, TrainConfig(), method=method, objective=method, seed=0, device="cpu"
        )
