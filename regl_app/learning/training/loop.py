"""Local training: a client's steps of one round."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.core.precision import memory_format, trains_fast_in_bf16
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet, to_float
from regl_app.learning.methods.method import Objective
from regl_app.learning.training.augment import random_shift
from regl_app.learning.training.batches import batches, num_steps

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainResult:
    """What one local training did."""

    loss: float
    """Mean loss over all steps; 0 if there were none."""
    steps: int
    images: int
    """Images trained on, real and synthetic: the client's weight in FedAvg."""
    seconds: float


def train_local(
    model: nn.Module,
    data: ImageSet,
    config: RunConfig,
    *,
    objective: Objective,
    seed: int,
    device: torch.device | str,
    progress: Progress | None = None,
) -> TrainResult:
    """Train ``model`` in place on ``data`` for the configured number of steps.

    The optimizer is fresh and the learning rate constant. Two calls with equal arguments and
    thread counts give equal weights. Without images the model stays as it is.

    Args:
        seed: of the order of images and of augmentation.
        progress: called with (steps done, steps in total) after each step.
    """
    started = time.perf_counter()
    steps = num_steps(len(data), config.train)
    model.to(device)
    if steps == 0:
        return TrainResult(0.0, 0, len(data), time.perf_counter() - started)
    layout = memory_format(device)
    model.to(memory_format=layout)
    global_model = _frozen_copy(model) if objective.needs_global else None
    images, labels = data.images.to(device), data.labels.to(device)
    optimizer = make_optimizer(model, config.train)
    shifts = torch_generator(seed, "augment")
    most = max(1, data.shape[-1] // 8)
    bf16 = trains_fast_in_bf16(device)
    total = torch.zeros((), device=device)
    model.train()
    for step, chosen in enumerate(
        batches(len(data), config.train, torch_generator(seed, "order")), start=1
    ):
        picked = chosen.to(device)
        batch = images[picked]
        if config.train.augment:
            batch = random_shift(batch, most, shifts)
        batch = to_float(batch).contiguous(memory_format=layout)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            loss = objective.loss(model, batch, labels[picked], global_model)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if config.train.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
        optimizer.step()
        total += loss.detach()
        if progress is not None:
            progress(step, steps)
    # The usual layout again: safetensors refuses any other.
    model.to(memory_format=torch.contiguous_format)
    return TrainResult(float(total) / steps, steps, len(data), time.perf_counter() - started)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the configured optimizer over all parameters of ``model``."""
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _frozen_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)
