"""A step's batch in parts where memory is short: the gradients of the parts add up to the batch's.

Half as many images at once each time that the device's memory does not hold them; where it does not
hold a single one, the VAE leaves it, then the denoiser's activations are computed twice instead of
kept (gradient checkpointing). What was learnt so holds for the process, as for drawing
(``portions.py``). Where a processor's memory ends there is no error, something is killed: large
images go one by one there from the start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.generator.foundation import Foundation
from regl_app.generator.portions import too_large
from regl_app.generator.ran_out import tried

ON_PROCESSORS = 512 * 512
"""Pixels at once on a processor: one image of 512 x 512 takes 4 GB beside the weights of a Stable
Diffusion 1.5, a pair 8 (``benchmarks/full_size.py``)."""


@dataclass(frozen=True)
class BatchLoss:
    """A batch that was drawn, and what it loses.

    Args:
        count: examples in it, >= 1.
        each: the losses ``(n,)`` of the n examples in a part of it, to go backward from; is called
            again where memory ran out, so that nothing may be drawn in it.
    """

    count: int
    each: Callable[[slice], torch.Tensor]


@dataclass(frozen=True)
class _Learnt:
    at_once: int
    checkpointing: bool = False


_learnt: dict[tuple[object, ...], _Learnt] = {}


class MicroBatches:
    """How the batches of one kind of tuning go through a denoiser.

    Args:
        foundation: whose denoiser is tuned.
        what: is done, for messages, such as 'tuning'.
        of: what a batch is of: 'image' or 'pair'.
        key: of the configuration, with its value, that says how large a batch is.
    """

    def __init__(self, foundation: Foundation, what: str, of: str, key: str) -> None:
        self._foundation = foundation
        self._what = what
        self._of = of
        self._key = key
        self._most = most_at_once(foundation)
        self._place = (
            what,
            foundation.digest,
            foundation.image_size,
            foundation.precision,
            foundation.device,
        )

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Have gradient checkpointing on, where it was found to be needed, and off again after."""
        learnt = _learnt.get(self._place)
        try:
            if learnt is not None and learnt.checkpointing:
                self._foundation.denoiser.enable_gradient_checkpointing()
            yield
        finally:
            if self._foundation.denoiser.is_gradient_checkpointing:
                self._foundation.denoiser.disable_gradient_checkpointing()

    def backward(
        self,
        batch: BatchLoss,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
    ) -> torch.Tensor:
        """Leave the gradients of the mean loss of ``batch`` to ``optimizer``; return that mean, ().

        Raises:
            GeneratorError: the device's memory does not hold a single example.
        """
        failed = 0
        while True:
            learnt = _learnt.get(self._place, _Learnt(batch.count))
            at_once = min(learnt.at_once, batch.count, self._most)
            optimizer.zero_grad(set_to_none=True)
            loss = tried(partial(_backward, batch, at_once, scaler))
            if loss is not None:
                if failed:
                    self._tell(at_once, batch.count)
                return loss
            failed += 1
            _learnt[self._place] = self._smaller(learnt, at_once, batch.count)

    def _smaller(self, learnt: _Learnt, at_once: int, count: int) -> _Learnt:
        if at_once > 1:
            return _Learnt(at_once // 2, learnt.checkpointing)
        if self._foundation.placement.take_turns():
            return _Learnt(count, learnt.checkpointing)  # several may fit now
        denoiser = self._foundation.denoiser
        if learnt.checkpointing or not denoiser._supports_gradient_checkpointing:
            what = f"{self._what} on a single {self._of}"
            raise GeneratorError(too_large(self._foundation, what, ", lower lora.rank"))
        denoiser.enable_gradient_checkpointing()
        return _Learnt(count, checkpointing=True)  # several may fit now

    def _tell(self, at_once: int, count: int) -> None:
        foundation = self._foundation
        twice = foundation.denoiser.is_gradient_checkpointing
        logger.warning(
            "%s at %d x %d pixels: the memory of %s holds %d %s%s at once%s, from now on; the "
            "gradients of all %d in a batch are added up (%s)",
            self._what,
            foundation.image_size,
            foundation.image_size,
            foundation.device,
            at_once,
            self._of,
            "s" * (at_once != 1),
            ", with gradient checkpointing" if twice else "",
            count,
            self._key,
        )


def most_at_once(foundation: Foundation) -> int:
    """Return how many images or pairs of a step go through the denoiser together, at most."""
    if foundation.device.type != "cpu":
        return sys.maxsize
    return max(ON_PROCESSORS // foundation.image_size**2, 1)


def _backward(batch: BatchLoss, at_once: int, scaler: torch.amp.GradScaler | None) -> torch.Tensor:
    losses = []
    for begin in range(0, batch.count, at_once):
        part = slice(begin, min(begin + at_once, batch.count))
        loss = batch.each(part).mean()
        if part.stop - part.start < batch.count:
            loss = loss * ((part.stop - part.start) / batch.count)
        torch.autograd.backward(loss if scaler is None else scaler.scale(loss))
        losses.append(loss.detach())
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
