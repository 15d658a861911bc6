"""Losses against label skew: golden values by plain arithmetic, and what a client may lack."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from regl_app.config.sections import ModelConfig, TrainConfig
from regl_app.core.errors import RunError
from regl_app.data.images import ImageSet
from regl_app.learning.methods import Batch, Local, method_class
from regl_app.learning.methods.label_counts import label_counts
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import train_local

LOGITS = [[1.0, -0.5, 2.0, 0.3], [0.2, 1.5, -1.0, 0.7], [3.0, 0.0, 1.0, -2.0]]
TEACHER = [[0.5, 1.0, -1.0, 0.0], [2.0, 0.1, 0.4, -0.6], [-0.2, 0.8, 0.3, 1.1]]
LABELS = [0, 3, 0]
COUNTS = [16, 0, 81, 1]
NAMES = ["fedlc", "fedrs", "balanced-softmax", "fedntd"]


class _Identity(Classifier):
    """Logits are the pixels times one weight per class."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.head = nn.Linear(classes, classes, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(classes))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def _batch(logits: list[list[float]], labels: list[int]) -> Batch:
    images = torch.tensor(logits)[:, None, None, :]
    return Batch(images, torch.tensor(labels), torch.zeros(len(labels), dtype=torch.bool))


def _local(model: nn.Module, counts: list[int], real: list[int] | None = None) -> Local:
    return Local(model, np.array(counts), np.array(counts if real is None else real))


def _loss(
    name: str,
    logits: list[list[float]] = LOGITS,
    labels: list[int] = LABELS,
    counts: list[int] = COUNTS,
    real: list[int] | None = None,
    **train: float,
) -> float:
    model = _Identity(len(logits[0]))
    method = method_class(name)(TrainConfig.model_validate(train))
    loss = method.loss(model, _batch(logits, labels), _local(model, counts, real))
    return float(loss.detach())


def _cross_entropy(logits: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Return the mean of ``log(sum(exp(f))) - f_y``, number by number."""
    each = [
        math.log(sum(math.exp(value) for value in row)) - row[label]
        for row, label in zip(logits, labels, strict=True)
    ]
    return sum(each) / len(each)


# FedLC


def test_fedlc_lowers_a_logit_by_the_fourth_root_of_its_count() -> None:
    tau = 0.8
    margins = [tau / 2, tau * 100, tau / 3, tau]  # of 16, none (as 1e-8), 81 and 1 images
    wanted = [[f - m for f, m in zip(row, margins, strict=True)] for row in LOGITS]
    assert _loss("fedlc", fedlc_tau=tau) == pytest.approx(_cross_entropy(wanted, LABELS))


def test_fedlc_without_strength_is_fedavg_though_classes_are_absent() -> None:
    assert _loss("fedlc", fedlc_tau=0.0) == pytest.approx(_cross_entropy(LOGITS, LABELS))


# FedRS


def test_fedrs_scales_the_logits_of_absent_classes_alone() -> None:
    wanted = [[a, 0.3 * b, c, d] for a, b, c, d in LOGITS]
    assert _loss("fedrs", fedrs_alpha=0.3) == pytest.approx(_cross_entropy(wanted, LABELS))


def test_fedrs_is_fedavg_with_all_classes_or_at_one() -> None:
    plain = pytest.approx(_cross_entropy(LOGITS, LABELS))
    assert _loss("fedrs", counts=[1, 1, 1, 1]) == plain
    assert _loss("fedrs", fedrs_alpha=1.0) == plain


# Balanced softmax


def test_balanced_softmax_adds_the_logarithm_of_the_label_shares() -> None:
    shares = [count / 98 for count in (16, 1e-8, 81, 1)]
    wanted = [[f + math.log(s) for f, s in zip(row, shares, strict=True)] for row in LOGITS]
    assert _loss("balanced-softmax") == pytest.approx(_cross_entropy(wanted, LABELS))


def test_balanced_softmax_is_fedavg_where_classes_are_balanced() -> None:
    found = _loss("balanced-softmax", counts=[7, 7, 7, 7])
    assert found == pytest.approx(_cross_entropy(LOGITS, LABELS))


# FedNTD


def _not_true(row: list[float], label: int, tau: float) -> list[float]:
    powers = [math.exp(value / tau) for place, value in enumerate(row) if place != label]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(("beta", "tau"), [(1.0, 1.0), (0.3, 2.0)])
def test_fedntd_distils_the_other_classes(beta: float, tau: float) -> None:
    model, base = _Identity(), _Identity()
    with torch.no_grad():  # another head gives the teacher's logits on the same images
        base.head.weight.copy_((torch.linalg.pinv(torch.tensor(LOGITS)) @ torch.tensor(TEACHER)).T)
    local = _local(model, COUNTS)
    vars(local)["global_model"] = base.requires_grad_(False)
    method = method_class("fedntd")(TrainConfig(fedntd_beta=beta, fedntd_tau=tau))
    divergence = 0.0
    for own, theirs, label in zip(LOGITS, TEACHER, LABELS, strict=True):
        pairs = zip(_not_true(theirs, label, tau), _not_true(own, label, tau), strict=True)
        divergence += sum(p * math.log(p / q) for p, q in pairs) / len(LABELS)
    wanted = _cross_entropy(LOGITS, LABELS) + beta * tau**2 * divergence
    found = method.loss(model, _batch(LOGITS, LABELS), local)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)


def test_fedntd_at_the_global_model_is_fedavg_and_leaves_it_as_it_is() -> None:
    model = _Identity()
    local = _local(model, COUNTS)
    method = method_class("fedntd")(TrainConfig())
    before = copy.deepcopy(local.global_model.state_dict())
    loss = method.loss(model, _batch(LOGITS, LABELS), local)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == pytest.approx(_cross_entropy(LOGITS, LABELS))
    for key, value in local.global_model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(parameter.grad is None for parameter in local.global_model.parameters())


def test_fedntd_has_nothing_to_distil_between_two_classes() -> None:
    logits = [[1.0, -2.0], [0.5, 0.1]]
    assert _loss("fedntd", logits, [0, 1], [1, 1], fedntd_beta=9.0) == pytest.approx(
        _cross_entropy(logits, [0, 1])
    )


def test_fedntd_asks_for_the_global_model_in_its_first_step() -> None:
    model = _Identity()
    local = _local(model, COUNTS)
    local.begun = True
    with pytest.raises(RunError, match="in its first step"):
        method_class("fedntd")(TrainConfig()).loss(model, _batch(LOGITS, LABELS), local)


# What a client may lack


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tau", [0.0, 0.5, 1e6])
def test_no_gradient_is_lost_where_a_client_has_one_class(name: str, tau: float) -> None:
    model = _Identity()
    train = TrainConfig(fedlc_tau=tau, fedntd_tau=max(tau, 1e-3))
    loss = method_class(name)(train).loss(
        model, _batch(LOGITS, [2, 2, 2]), _local(model, [0, 0, 3, 0])
    )
    torch.autograd.backward(loss)
    assert model.head.weight.grad is not None
    assert torch.isfinite(loss) and torch.isfinite(model.head.weight.grad).all()


@pytest.mark.parametrize("name", ["fedlc", "balanced-softmax"])
def test_a_client_of_one_class_has_nothing_left_to_learn(name: str) -> None:
    model = _Identity()
    loss = method_class(name)(TrainConfig()).loss(
        model, _batch(LOGITS, [2, 2, 2]), _local(model, [0, 0, 3, 0])
    )
    torch.autograd.backward(loss)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert model.head.weight.grad is not None
    assert float(model.head.weight.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("name", ["fedlc", "balanced-softmax"])
def test_an_absent_class_is_neither_learnt_nor_unlearnt(name: str) -> None:
    model = _Identity()
    loss = method_class(name)(TrainConfig()).loss(
        model, _batch(LOGITS, LABELS), _local(model, COUNTS)
    )
    torch.autograd.backward(loss)
    assert model.head.weight.grad is not None
    moved = model.head.weight.grad.abs().amax(dim=1)
    assert float(moved[1]) < 1e-8
    assert float(moved[0]) > 0.01 and float(moved[2]) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_federation_of_one_class_has_no_loss(name: str) -> None:
    assert _loss(name, [[2.0], [-3.0]], [0, 0], [2]) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("name", ["fedlc", "fedrs", "balanced-softmax"])
def test_synthetic_images_count_as_all_that_is_trained_on(name: str) -> None:
    real = [16, 0, 81, 0]
    assert _loss(name, counts=COUNTS, real=real) == _loss(name, counts=COUNTS)
    assert _loss(name, counts=[16, 40, 81, 1], real=real) != _loss(name, counts=COUNTS)


def test_counts_are_made_once_a_round() -> None:
    local = _local(_Identity(), COUNTS)
    counts = local.once(label_counts)
    assert counts is local.once(label_counts)
    torch.testing.assert_close(counts, torch.tensor([16, 1e-8, 81, 1]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [[0, 1, 2] * 6, [1] * 18], ids=["all", "one class"])
def test_training_changes_weights_alike_each_time_and_sends_nothing(
    name: str, labels: list[int]
) -> None:
    train = TrainConfig(steps=4, batch_size=8)
    pixels = torch.randint(0, 256, (18, 1, 16, 16), generator=torch.Generator().manual_seed(3))
    data = ImageSet(pixels.byte(), torch.tensor(labels))
    ends = []
    for _ in range(2):
        model = build_model(ModelConfig(width=4), 3, 1, 16, 0)
        method = method_class(name)(train)
        result = train_local(model, data, train, method=method, seed=0, device="cpu")
        assert not result.sent and not result.kept and math.isfinite(result.loss)
        ends.append(model.state_dict())
    start = build_model(ModelConfig(width=4), 3, 1, 16, 0).state_dict()
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    assert all(torch.isfinite(value).all() for value in ends[0].values())
    assert not torch.equal(start["head.weight"], ends[0]["head.weight"])
