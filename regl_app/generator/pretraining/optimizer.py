"""What both stages of pretraining share: the optimizer, its schedule, and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from regl_app.generator.learning_rate import warm_cosine

LossProgress = Callable[[str, int, int, float], None]
"""Called with (stage, steps done, steps in all, loss)."""

_WARM_UP = 0.05


def optimizer_for(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.AdamW:
    """Return AdamW with mild decay."""
    return torch.optim.AdamW(list(parameters), lr, betas=(0.9, 0.99), weight_decay=1e-2)


def one_cycle_step(
    optimizer: torch.optim.Optimizer, loss: torch.Tensor, step: int, steps: int, lr: float
) -> None:
    """Take one clipped step at linear warm-up, then cosine decay to zero."""
    warm = max(1, round(_WARM_UP * steps))
    scale = warm_cosine(steps, warm)(step)
    for group in optimizer.param_groups:
        group["lr"] = lr * scale
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
