"""What somebody who writes a method of their own can count on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.core.errors import RunError
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.learning.methods.checks import check_sent
from regl_app.learning.methods.method import Batch, Local, Method
from regl_app.learning.models.build import build_model
from regl_app.learning.training.loop import train_local

TRAIN = TrainConfig.model_validate({"steps": 3})
CONFIG = RunConfig.from_flat({"model.width": 4})


def model() -> nn.Module:
    return build_model(CONFIG.model, 3, 1, 16, 0)


def train(method: Method, seed: int = 0) -> Tensors:
    images = torch.arange(12 * 256).reshape(12, 1, 16, 16).remainder(251).to(torch.uint8)
    own = model()
    train_local(
        own, ImageSet(images, torch.arange(12) % 3), TRAIN, method=method, seed=seed, device="cpu"
    )
    return own.state_dict()


def same(one: Tensors, other: Tensors) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Careless(Method):
    """Draws from the process's own state."""

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        mixed = batch.images[torch.randperm(len(batch.images))]
        return self.cross_entropy(model((batch.images + mixed) / 2).float(), batch, local)


class Careful(Method):
    """Draws from what it is given."""

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        order = torch.randperm(len(batch.images), generator=local.generator)
        mixed = (batch.images + batch.images[order]) / 2
        return self.cross_entropy(model(mixed).float(), batch, local)


@pytest.mark.parametrize("method", [Careless, Careful])
def test_what_a_loss_draws_follows_the_seed(method: type[Method]) -> None:
    torch.manual_seed(1)
    first = train(method(TRAIN))
    torch.manual_seed(2)
    assert same(first, train(method(TRAIN)))
    assert not same(first, train(method(TRAIN), seed=1))


def test_a_careless_loss_leaves_the_process_its_random_state() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(Careless(TRAIN))
    assert torch.equal(before, torch.get_rng_state())


def test_what_would_be_made_anew_in_every_step_is_no_once() -> None:
    local = Local(model(), np.zeros(3), np.zeros(3))
    with pytest.raises(RunError, match="a function of a module"):
        local.once(lambda each: each.model)


@pytest.mark.parametrize(
    "sent",
    [{}, {"c": torch.zeros(2)}, {"c": torch.zeros(3, dtype=torch.float64)}, {"d": torch.zeros(3)}],
    ids=["nothing", "shape", "type", "name"],
)
def test_what_the_server_would_refuse_is_said_where_it_is_made(sent: Tensors) -> None:
    with pytest.raises(RunError, match="objective='mine': finish must send") as told:
        check_sent(sent, {"c": torch.zeros(3)}, "mine")
    assert "'c'" in str(told.value)


def test_what_has_the_form_of_sends_is_sent() -> None:
    check_sent({"c": torch.ones(3)}, {"c": torch.zeros(3)}, "mine")
