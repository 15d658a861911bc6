"""The loop that every adapter is tuned by, whatever its loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.precision import Precision
from regl_app.core.types import StepProgress
from regl_app.generator.adaptation.micro_batches import BatchLoss, MicroBatches
from regl_app.generator.foundation import Foundation
from regl_app.generator.learning_rate import warm_cosine

_CLIP_NORM = 1.0
_TOLD_EVERY = 10


def fit_layers(
    parameters: list[torch.nn.Parameter],
    draw: Callable[[], BatchLoss],
    micro_batches: MicroBatches,
    *,
    steps: int,
    lr: float,
    scaler: torch.amp.GradScaler | None = None,
    progress: StepProgress | None = None,
) -> list[torch.Tensor]:
    """Minimize by AdamW without decay, clipped, at a tenth of warm-up and then a cosine.

    Args:
        parameters: what is trained.
        draw: returns a new batch.
        micro_batches: how it goes through the denoiser.
        steps: optimizer steps, >= 1.
        lr: peak of the learning rate.
        scaler: what the loss is scaled by; steps whose gradients overflow are left out. None: it is
            not scaled.
        progress: called with (steps done, steps) every tenth step and after the last.

    Returns:
        The losses of all steps, ``()`` each, on their device.

    Raises:
        GeneratorError: the device's memory does not hold one example of a batch.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    rate = warm_cosine(steps, max(steps // 10, 1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = []
    with micro_batches.ready():
        for done in range(1, steps + 1):
            losses.append(micro_batches.backward(draw(), optimizer, scaler))
            if scaler is None:
                torch.nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
                optimizer.step()
                schedule.step()
            else:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
                scaler.step(optimizer)
                scaler.update()
                with _unwarned():
                    schedule.step()
            if progress is not None and (done % _TOLD_EVERY == 0 or done == steps):
                progress(done, steps)
    return losses


def gradient_scaler(foundation: Foundation) -> torch.amp.GradScaler | None:
    """Return what keeps small gradients above fp16's smallest number; None in other precisions."""
    if foundation.precision != "fp16":
        return None
    return torch.amp.GradScaler(foundation.device.type)


def refuse_divergence(
    what: str, loss: float, steps: int, key: str, lr: float, precision: Precision
) -> None:
    """Raise a GeneratorError that names ``key`` = ``lr`` unless the ``loss`` of ``what`` is finite.

    Args:
        what: was tuned, for the message.
        loss: after ``steps``.
        steps: of the optimizer.
        key: of the configuration, such as 'lora.lr'.
        lr: its value.
        precision: that was tuned in; in fp16 it may be the fault.
    """
    if not math.isfinite(loss):
        other = ", or set generator.precision=bf16 or fp32" if precision == "fp16" else ""
        raise GeneratorError(
            f"{what} diverged: the loss is {loss} after {steps} steps (lower {key}, now {lr}"
            f"{other})"
        )


@contextmanager
def _unwarned() -> Iterator[None]:
    """Be silent where the scaler left out the first step: PyTorch takes it for a wrong order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        yield
