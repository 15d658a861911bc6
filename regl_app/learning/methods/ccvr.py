"""CCVR (Luo et al., 2021): the head is trained again on features drawn from class statistics.

Choose it where clients may tell the server how many images of each class they hold, and how these
look to the model. It needs no generator, and no image leaves a client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.core.errors import RunError
from regl_app.core.finite import not_finite
from regl_app.core.log import logger
from regl_app.core.seeding import torch_generator
from regl_app.core.types import Tensors, Weights
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.features import features
from regl_app.learning.methods.class_statistics import ROWS, Gaussian, combine, statistics
from regl_app.learning.methods.method import Local, Method
from regl_app.learning.models.classifier import Classifier

SYNTHETIC_ROWS = 128
"""Directions in which a client tells of classes of which it has nothing but synthetic images."""
_DRAWN, _STEPS, _BATCH, _LR, _MOMENTUM = 200, 1000, 64, 0.01, 0.9
_SYNTHETIC = "synthetic-"
_HEAD = ("head.weight", "head.bias")


class CCVR(Method):
    """Clients train as in FedAvg; each round is measured with a calibrated head.

    The paper calibrates once, after the last round, by statistics of the last average. A client
    sees an average when the next round starts, and tells of it then: what round t reports is the
    model that it started from, with a head for *its* features. All clients' features are so of one
    model, the head is for the body that they are of, and the paper's further exchange of messages
    counts as the round that it is: after T rounds the reported body is the average of T - 1.

    Training goes on from the plain average, never from a calibrated head, as in the paper. A head
    for the old body under the new average, which could go on, was worse (docs/methods.md).

    A covariance of D features has D^2 numbers a class. Clients send a factor of it, whose rows are
    principal directions and no image's features: ``ROWS`` of them in all, which is exact while a
    client has no more images, and else leaves out what varies least.

    Ours: 200 features a class (the choice of FL-bench), 1,000 steps of SGD (batch 64, lr 0.01,
    momentum 0.9) from the received head. Real images count, those of the clients that took part;
    where these have none of a class (``server.fraction`` below 1), their synthetic ones do.
    """

    def __init__(self, train: TrainConfig) -> None:
        super().__init__(train)
        self.fills = False

    def for_run(self, config: RunConfig) -> Self:
        """Return it, telling of synthetic images if a round may lack a class that they show."""
        self.fills = config.tells_of_synthetic
        return self

    def after_backward(self, model: nn.Module, local: Local) -> None:
        """Measure the received model, before the first step changes it."""
        local.once(_statistics)
        if self.fills:
            local.once(_synthetic)

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        """Send the statistics."""
        sent = local.once(_statistics)
        return {}, {**sent, **local.once(_synthetic)} if self.fills else sent

    def sends(self, model: nn.Module) -> Tensors:
        """Return what a client's statistics look like."""
        classes, width = _head(model).weight.shape
        nothing, none = torch.zeros(0, width), torch.zeros(0, dtype=torch.int64)
        real = statistics(nothing, none, classes)
        synthetic = statistics(nothing, none, classes, SYNTHETIC_ROWS)
        return {**real, **_prefixed(synthetic)} if self.fills else real

    def report(
        self, start: Weights, average: Weights, sent: Mapping[int, Tensors], seed: int
    ) -> Weights:
        """Return ``start`` with a calibrated head."""
        gaussians = _gaussians(list(sent.values())) if self.fills else combine(list(sent.values()))
        head = calibrated({name: start[name] for name in _HEAD}, gaussians, seed)
        if (name := not_finite(head)) is not None:
            logger.warning("the calibrated %r is not finite: the average is reported", name)
            return average
        return {**start, **head}

    @property
    def keeps(self) -> bool:
        """Return False: nothing stays at a client."""
        return False


def calibrated(head: Weights, gaussians: Sequence[Gaussian | None], seed: int) -> Weights:
    """Return ``head`` after some steps of cross-entropy on features drawn of each class.

    Args:
        head: its weight and bias.
        gaussians: by class; of None nothing is drawn.
        seed: of what is drawn, and of its order.
    """
    drawn = torch_generator(seed, "features")
    known = [(label, each) for label, each in enumerate(gaussians) if each is not None]
    if not known:
        return head
    inputs = torch.cat([each.draw(_DRAWN, drawn) for _, each in known])
    labels = torch.tensor([label for label, _ in known]).repeat_interleave(_DRAWN)
    trained = {
        name: value.detach().cpu().float().clone().requires_grad_() for name, value in head.items()
    }
    optimizer = torch.optim.SGD(list(trained.values()), lr=_LR, momentum=_MOMENTUM)
    order = torch_generator(seed, "order")
    for _ in range(_STEPS):
        picked = torch.randint(len(labels), (_BATCH,), generator=order)
        logits = functional.linear(inputs[picked], *(trained[name] for name in _HEAD))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(functional.cross_entropy(logits, labels[picked]))
        optimizer.step()
    return {name: value.detach().to(head[name].dtype) for name, value in trained.items()}


def _gaussians(sent: Sequence[Tensors]) -> list[Gaussian | None]:
    """Return each class's Gaussian: of real images, where any client of the round has some."""
    synthetic = [
        {key.removeprefix(_SYNTHETIC): each[key] for key in each if key.startswith(_SYNTHETIC)}
        for each in sent
    ]
    return [real or made for real, made in zip(combine(sent), combine(synthetic), strict=True)]


def _statistics(local: Local) -> Tensors:
    real = _before_training(local, local.real_images)
    if not len(real):  # at the server, on synthetic images
        return {}
    return _told(local, real)


def _synthetic(local: Local) -> Tensors:
    """Return what a client tells of its synthetic images, of classes that it lacks alone."""
    if not len(_before_training(local, local.real_images)):
        return {}
    images = _before_training(local, local.synthetic_images)
    lacking = torch.from_numpy(local.real_counts == 0)[images.labels]
    return _prefixed(_told(local, images.subset(lacking.nonzero().flatten()), SYNTHETIC_ROWS))


def _before_training(local: Local, images: ImageSet | None) -> ImageSet:
    if local.begun or images is None:
        raise RunError("CCVR must be asked for statistics in the first step, with the images")
    return images


def _told(local: Local, images: ImageSet, most: int = ROWS) -> Tensors:
    model = local.model
    assert isinstance(model, Classifier)
    found = features(model, images, next(model.parameters()).device)
    return statistics(torch.from_numpy(found), images.labels, _head(model).out_features, most)


def _prefixed(told: Tensors) -> Tensors:
    return {_SYNTHETIC + name: value for name, value in told.items()}


def _head(model: nn.Module) -> nn.Linear:
    head = model.head
    assert isinstance(head, nn.Linear)
    return head
