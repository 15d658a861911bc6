"""What a local learning rule may change about FedAvg, and what it may look at.

A method is one file: a subclass that overrides its difference, and one line of the registry. An
object holds nothing of a round, so that one may serve many clients: what is made on the way is
remembered by ``Local.once``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, TypeVar

import torch
from torch import nn
from torch.nn import functional

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.core.errors import RunError
from regl_app.core.types import Counts, Floats, Tensors, Weights
from regl_app.data.images import ImageSet
from regl_app.learning.methods.class_weights import balanced, weighed_cross_entropy

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """One local step's images ``(N, C, H, W)`` in [-1, 1], ``labels`` ``(N,)``, and which of them
    are ``synthetic`` ``(N,)`` bool.

    ``soft`` ``(N, C)`` are soft labels, one-hot for real images; None where all labels are hard.
    """

    images: torch.Tensor
    labels: torch.Tensor
    synthetic: torch.Tensor
    soft: torch.Tensor | None = None

    @property
    def target(self) -> torch.Tensor:
        """Return what cross-entropy is taken with: soft labels where there are any."""
        return self.labels if self.soft is None else self.soft


@dataclass
class Local:
    """What a method may look at in one client's round.

    ``label_counts`` and ``real_counts`` ``(C,)`` are of all images trained on, and of the real ones
    among them. ``kept`` is what ``finish`` kept at this client, empty at first; ``received`` is
    the server's state, see ``Method.aggregate``; both are on the CPU, as are ``real_images`` and
    ``synthetic_images``, the images themselves, and ``generator``, the round's own: what a loss
    draws, it draws from it. ``drawn_counts`` ``(C,)`` are the ``label_counts`` as steps draw them
    in the mean (``train.real-share``), None where these come as they are: see ``step_counts``.
    """

    model: nn.Module
    label_counts: Counts
    real_counts: Counts
    kept: Tensors = field(default_factory=dict)
    received: Tensors = field(default_factory=dict)
    begun: bool = False
    real_images: ImageSet | None = None
    synthetic_images: ImageSet | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    drawn_counts: Floats | None = None
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def step_counts(self) -> Counts | Floats:
        """Return what corrects for label skew: images per class ``(C,)``, as steps draw them."""
        return self.label_counts if self.drawn_counts is None else self.drawn_counts

    @cached_property
    def global_model(self) -> nn.Module:
        """Return the frozen model that the round started from, copied when first asked for.

        Raises:
            RunError: it is first asked for after a step, when there is nothing left to copy.
        """
        if self.begun:
            raise RunError("a method must ask for local.global_model in its first step")
        return self.frozen(self.model.state_dict())

    def frozen(self, state: Tensors) -> nn.Module:
        """Return a frozen model of the client's architecture with ``state``, to compare with."""
        other = copy.deepcopy(self.model)
        other.load_state_dict(dict(state))
        other.zero_grad(set_to_none=True)  # a copy has its own of what the model had
        return other.eval().requires_grad_(False)

    def once(self, make: Callable[[Local], T]) -> T:
        """Return what ``make``, a function of a module, makes of this round, made only once.

        Raises:
            RunError: ``make`` is made anew at each call, so that nothing would be remembered.
        """
        if "<locals>" in getattr(make, "__qualname__", "<locals>"):
            raise RunError(
                f"local.once must be given a function of a module, got {make!r}: a lambda or a "
                "function within a method is another one in every step"
            )
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made


class Method:
    """FedAvg (McMahan et al., 2017), to be changed: plain cross-entropy, everything is averaged."""

    def __init__(self, train: TrainConfig) -> None:
        self.train = train

    def for_run(self, config: RunConfig) -> Self:
        """Return the method as the run ``config`` needs it, where ``train`` does not say enough."""
        return self

    def shared(self, names: Sequence[str]) -> Sequence[str]:
        """Return which of a model's tensors, by ``names``, are sent and averaged.

        The others stay at the client, who keeps them by ``finish``, and are its own from round to
        round (FedPer, FedRep, FedBN).
        """
        return names

    def trainable(self, model: nn.Module, step: int, steps: int) -> Iterable[nn.Parameter]:
        """Return what step ``step``, from 1, of ``steps`` updates."""
        return model.parameters()

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return the scalar loss of a batch: the mean cross-entropy."""
        return self.cross_entropy(model(batch.images).float(), batch, local)

    def cross_entropy(self, logits: torch.Tensor, batch: Batch, local: Local) -> torch.Tensor:
        """Return the mean cross-entropy of ``logits`` ``(N, C)``, weighed by
        ``train.class-weights``."""
        if self.train.class_weights == "none":
            return functional.cross_entropy(logits, batch.target)
        weights = local.once(_class_weights).to(logits.device)
        return weighed_cross_entropy(logits, batch.target, weights)

    def after_backward(self, model: nn.Module, local: Local) -> None:
        """Change the gradients that the optimizer will see; they are clipped already."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        """Return what the client keeps for its next round, and what the server is sent.

        Both are copied to the CPU by whoever asks. What is sent must have the names, shapes and
        types of ``sends``; what is kept must have all that ``shared`` leaves out, and no NaN.
        """
        return {}, {}

    def template(self, model: nn.Module) -> Tensors:
        """Return the server's first state, which has the form of every later one."""
        return {}

    def sends(self, model: nn.Module) -> Tensors:
        """Return the bound of what clients may send: tensors of its names, shapes and types."""
        return self.template(model)

    def aggregate(
        self,
        state: Tensors,
        sent: Mapping[int, Tensors],
        weights: Mapping[int, float],
        num_clients: int,
    ) -> Tensors:
        """Return the server's next state, which clients receive in the next round.

        It must be finite, with the names, shapes and types of ``template``.

        Args:
            state: the server's, of ``template``.
            sent: what clients sent in this round, by partition, ascending.
            weights: the images they trained on, by partition.
            num_clients: the clients that can train, those that took no part in this round included.
                Who is not known to have no images counts.
        """
        return state

    def report(
        self, start: Weights, average: Weights, sent: Mapping[int, Tensors], seed: int
    ) -> Weights:
        """Return the model by which a round is measured; the next goes on from ``average`` anyway.

        It must be finite, with the names, shapes and types of ``average``.

        Args:
            start: the global model that the round began with, shared tensors only, as the others.
            average: what was made of the uploads.
            sent: what clients sent in this round, by partition, ascending.
            seed: the round's, to derive randomness from.
        """
        return average

    @property
    def reports(self) -> bool:
        """Return whether a round is measured by another model than the next goes on from."""
        return type(self).report is not Method.report

    @property
    def keeps(self) -> bool:
        """Return whether clients keep something from round to round."""
        return type(self).finish is not Method.finish


def _class_weights(local: Local) -> torch.Tensor:
    return balanced(local.step_counts)


def personal(method: Method, names: Sequence[str]) -> frozenset[str]:
    """Return which of a model's tensors stay at the client."""
    return frozenset(names) - frozenset(method.shared(names))


def detached(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies that no later step changes, on the CPU and in the usual layout."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
