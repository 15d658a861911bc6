"""The loop that every adapter is tuned by, whatever its loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.types import StepProgress
from regl_app.generator.learning_rate import warm_cosine

_CLIP_NORM = 1.0
_TOLD_EVERY = 10


def fit_layers(
    parameters: list[torch.nn.Parameter],
    draw_loss: Callable[[], torch.Tensor],
    *,
    steps: int,
    lr: float,
    progress: StepProgress | None = None,
) -> list[torch.Tensor]:
    """Minimize by AdamW without decay, clipped, at a tenth of warm-up and then a cosine.

    Args:
        parameters: what is trained.
        draw_loss: returns the loss of a new batch, ``()``, to go backward from.
        steps: optimizer steps, >= 1.
        lr: peak of the learning rate.
        progress: called with (steps done, steps) every tenth step and after the last.

    Returns:
        The losses of all steps, ``()`` each, on their device.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    rate = warm_cosine(steps, max(steps // 10, 1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = []
    for done in range(1, steps + 1):
        loss = draw_loss()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if progress is not None and (done % _TOLD_EVERY == 0 or done == steps):
            progress(done, steps)
    return losses


def refuse_divergence(what: str, loss: float, steps: int, key: str, lr: float) -> None:
    """Raise a GeneratorError that names ``key`` = ``lr`` unless the ``loss`` of ``what`` is finite.

    Args:
        what: was tuned, for the message.
        loss: after ``steps``.
        steps: of the optimizer.
        key: of the configuration, such as 'lora.lr'.
        lr: its value.
    """
    if not math.isfinite(loss):
        raise GeneratorError(
            f"{what} diverged: the loss is {loss} after {steps} steps (lower {key}, now {lr})"
        )
