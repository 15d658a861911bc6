"""CCVR (Luo et al., 2021): the head is trained again on features drawn from class statistics.

Choose it where clients may tell the server how many images of each class they hold, and how these
look to the model. It needs no generator, and no image leaves a client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from regl_app.core.errors import RunError
from regl_app.core.finite import not_finite
from regl_app.core.log import logger
from regl_app.core.seeding import torch_generator
from regl_app.core.types import Tensors, Weights
from regl_app.learning.evaluation.features import features
from regl_app.learning.methods.method import Local, Method
from regl_app.learning.models.classifier import Classifier

ROWS = 512
"""Directions in which a client tells of its covariances, all classes together."""
_DRAWN, _STEPS, _BATCH, _LR, _MOMENTUM = 200, 1000, 64, 0.01, 0.9
_HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class Gaussian:
    """A class's features: their ``mean`` ``(D,)`` and a ``factor`` ``(R, D)`` of their covariance,
    which is ``factor^T factor``; both in double precision."""

    mean: torch.Tensor
    factor: torch.Tensor

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return ``(count, D)`` float32 of it."""
        noise = torch.randn(count, len(self.factor), generator=generator, dtype=torch.float64)
        return (self.mean + noise @ self.factor).float()


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
    momentum 0.9) from the received head. Only real images count; with ``server.fraction`` below 1,
    those of the clients that took part.
    """

    def after_backward(self, model: nn.Module, local: Local) -> None:
        """Measure the received model, before the first step changes it."""
        local.once(_statistics)

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        """Send the statistics."""
        return {}, local.once(_statistics)

    def sends(self, model: nn.Module) -> Tensors:
        """Return what a client's statistics look like."""
        classes, width = _head(model).weight.shape
        return {
            "counts": torch.zeros(classes, dtype=torch.int64),
            "means": torch.zeros(classes, width),
            "rows": torch.zeros(classes, dtype=torch.int64),
            "factors": torch.zeros(ROWS, width),
        }

    def report(
        self, start: Weights, average: Weights, sent: Mapping[int, Tensors], seed: int
    ) -> Weights:
        """Return ``start`` with a calibrated head."""
        gaussians = combine(list(sent.values()))
        head = calibrated({name: start[name] for name in _HEAD}, gaussians, seed)
        if (name := not_finite(head)) is not None:
            logger.warning("the calibrated %r is not finite: the average is reported", name)
            return average
        return {**start, **head}

    @property
    def keeps(self) -> bool:
        """Return False: nothing stays at a client."""
        return False


def statistics(found: torch.Tensor, labels: torch.Tensor, num_classes: int) -> Tensors:
    """Return what a client tells of its features ``(N, D)`` with ``labels`` ``(N,)``.

    ``counts`` ``(C,)`` images of each class; ``means`` ``(C, D)``, zero without images; ``rows``
    ``(C,)``, how many of ``factors`` ``(ROWS, D)``, in the order of classes, are the class's. With
    F its rows, ``F^T F`` is the class's covariance (divided by n - 1); rows that nobody has are 0.
    """
    width = found.shape[1]
    counts = torch.bincount(labels, minlength=num_classes)
    means = torch.zeros(num_classes, width)
    directions: list[torch.Tensor] = []
    for label, count in enumerate(counts.tolist()):
        own = found[labels == label].double()
        if count:
            means[label] = own.mean(dim=0).float()
        centred = own - own.mean(dim=0) if count > 1 else own[:0]
        directions.append(_directions(centred) / max(1, count - 1) ** 0.5)
    # The longest in the pooled scatter, (n - 1) times the covariance.
    weight = (counts - 1).clamp_min(1)
    lengths = [weight[label] * rows.square().sum(dim=1) for label, rows in enumerate(directions)]
    every = torch.cat(lengths)
    least = every.sort(descending=True).values[ROWS] if len(every) > ROWS else -torch.inf
    told = [rows[far > least] for rows, far in zip(directions, lengths, strict=True)]
    factors = torch.zeros(ROWS, width)
    joined = torch.cat(told)
    factors[: len(joined)] = joined.float()
    rows = torch.tensor([len(each) for each in told])
    return {"counts": counts, "means": means, "rows": rows, "factors": factors}


def _directions(centred: torch.Tensor) -> torch.Tensor:
    """Return rows ``(R, D)``, R <= min(N - 1, D), with the scatter of ``centred`` ``(N, D)``.

    ``Z^T Z = (U^T Z)^T (U^T Z)`` for the eigenvectors U of ``Z Z^T``: principal directions, longest
    first, of which no single one is a row of Z.
    """
    images, width = centred.shape
    if images <= width:
        vectors = torch.linalg.eigh(centred @ centred.T).eigenvectors
        turned: torch.Tensor = vectors.T @ centred
        return turned.flip(0)[: max(0, images - 1)]  # centred, so that one of them is 0
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    scaled: torch.Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return scaled.flip(0)


def combine(sent: Sequence[Tensors]) -> list[Gaussian | None]:
    """Return each class's Gaussian, that of all clients' features together; None without images.

    The paper's equations, with N the sum of all n_k: ``mu = sum n_k mu_k / N`` and
    ``Sigma = sum (n_k - 1)/(N - 1) Sigma_k + sum n_k/(N - 1) mu_k mu_k^T - N/(N - 1) mu mu^T``. The
    last two are ``sum n_k/(N - 1) (mu_k - mu)(mu_k - mu)^T``, so that a factor of Sigma is made of
    the clients' rows and of their means. What a client claims stays within its own rows.
    """
    if not sent:
        return []
    counts = torch.stack([each["counts"] for each in sent]).clamp(0, 2**40).double()
    found: list[Gaussian | None] = []
    for label in range(counts.shape[1]):
        images = counts[:, label]
        total = images.sum()
        if total < 1:
            found.append(None)
            continue
        means = torch.stack([each["means"][label] for each in sent]).double()
        mean = (images[:, None] * means).sum(dim=0) / total
        parts = [((images / (total - 1).clamp_min(1)).sqrt())[:, None] * (means - mean)]
        for each, count in zip(sent, images, strict=True):
            share = ((count - 1).clamp_min(0) / (total - 1).clamp_min(1)).sqrt()
            parts.append(share * _rows(each, label).double())
        found.append(Gaussian(mean, torch.cat(parts)))
    return found


def _rows(sent: Tensors, label: int) -> torch.Tensor:
    ends = sent["rows"].clamp(0, ROWS).cumsum(0).clamp_max(ROWS).tolist()
    return sent["factors"][ends[label - 1] if label else 0 : ends[label]]


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


def _statistics(local: Local) -> Tensors:
    model, real = local.model, local.real_images
    if local.begun or real is None:
        raise RunError("CCVR must be asked for statistics in the first step, with the images")
    if not len(real):  # at the server, on synthetic images
        return {}
    assert isinstance(model, Classifier)
    device = next(model.parameters()).device
    found = torch.from_numpy(features(model, real, device))
    return statistics(found, real.labels, _head(model).out_features)


def _head(model: nn.Module) -> nn.Linear:
    head = model.head
    assert isinstance(head, nn.Linear)
    return head
