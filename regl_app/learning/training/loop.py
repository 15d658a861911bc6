"""Local training: a client's steps of one round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.core.activity import Span
from regl_app.core.global_random import drawing_from
from regl_app.core.precision import memory_format, trains_fast_in_bf16
from regl_app.core.seeding import derive_seed, torch_generator
from regl_app.core.torch_defaults import plain_torch
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet, to_float
from regl_app.learning.methods.checks import check_finished
from regl_app.learning.methods.method import Batch, Local, Method, detached
from regl_app.learning.methods.registry import make_method
from regl_app.learning.training.augment import make_augment
from regl_app.learning.training.batches import batches, drawn_counts, num_steps

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainResult:
    """What one local training did; ``kept`` and ``sent`` are its method's, see ``finish``."""

    loss: float
    """Mean loss over all steps; 0 if there were none."""
    steps: int
    images: int
    """Images trained on, real and synthetic: the client's weight in FedAvg."""
    seconds: float
    kept: Tensors = field(default_factory=dict)
    sent: Tensors = field(default_factory=dict)


@plain_torch()
def train_local(
    model: nn.Module,
    data: ImageSet,
    config: TrainConfig | RunConfig,
    *,
    seed: int,
    device: torch.device | str,
    method: Method | None = None,
    objective: Method | None = None,
    real_images: int | None = None,
    targets: torch.Tensor | None = None,
    kept: Tensors | None = None,
    received: Tensors | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train ``model`` in place on ``data`` for the configured number of steps.

    The optimizer is fresh and the learning rate that of ``config``, constant: which a round has is
    told by ``schedule.at_round``. Two calls with equal arguments and
    thread counts give equal weights. Without images the model stays as it is.

    Args:
        config: how to train; of a whole configuration its section ``train`` is taken.
        seed: of the order of images and of augmentation.
        method: the local learning rule; ``objective`` is its former name. None: what a whole
            configuration names, FedAvg's otherwise.
        real_images: how many of ``data`` are real, those after them being synthetic; None: all.
        targets: soft labels ``(M, C)`` of the M synthetic images; None: their labels are hard.
        kept: what this client's last round kept for the method.
        received: what the server sent for the method.
        progress: called with (steps done, steps in total) after each step.

    Raises:
        RunError: the method's ``finish`` returns something else than tensors.
    """
    started = Span()
    if method is not None and objective is not None:
        raise ValueError("method and objective are two names of one thing: give one of them")
    train = config if isinstance(config, TrainConfig) else config.train
    method = method or objective or _default_method(config)
    steps = num_steps(len(data), train)
    model.to(device)
    if steps == 0:
        seconds = started.seconds
        return TrainResult(0.0, 0, len(data), seconds, detached(kept or {}))
    layout = memory_format(device)
    model.to(memory_format=layout)
    real = len(data) if real_images is None else real_images
    drawing = torch_generator(seed, "method")
    local = _local(model, data, real, train, kept or {}, received or {}, drawing)
    # What lies in a file stays there, and goes to the device batch by batch.
    pixels = data.pixels.to(device) if isinstance(data.pixels, torch.Tensor) else data.pixels
    labels = data.labels.to(device)
    soft = None if targets is None else _soft(data, real, targets).to(device)
    optimizer = make_optimizer(model, train)
    learnable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    augment = make_augment(train.augmentations, data.shape[-1], seed)
    bf16 = trains_fast_in_bf16(device)
    total = torch.zeros((), device=device)
    model.train()
    for step, chosen in enumerate(
        batches(len(data), train, torch_generator(seed, "order"), real), start=1
    ):
        picked = chosen.to(device)
        pictures = pixels[picked if isinstance(pixels, torch.Tensor) else chosen].to(device)
        pictures = to_float(augment(pictures, step)).contiguous(memory_format=layout)
        softly = None if soft is None else soft[picked]
        batch = Batch(pictures, labels[picked], picked >= real, softly)
        _let_train(learnable, method.trainable(model, step, steps))
        with (
            torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16),
            _drawing(model, method, seed, step, device),
        ):
            loss = method.loss(model, batch, local)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if train.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        method.after_backward(model, local)
        optimizer.step()
        local.begun = True
        total += loss.detach()
        if progress is not None:
            progress(step, steps)
    _let_train(learnable, learnable)
    # The usual layout again: safetensors refuses any other.
    model.to(memory_format=torch.contiguous_format)
    finished = method.finish(model, local, steps)
    check_finished(finished, method)
    keeps, sends = map(detached, finished)
    seconds = started.seconds
    return TrainResult(float(total) / steps, steps, len(data), seconds, keeps, sends)


def _drawing(
    model: nn.Module, method: Method, seed: int, step: int, device: torch.device | str
) -> AbstractContextManager[None]:
    """Return what others' layers, dropout say, and others' methods draw from in a step; ours draw
    nothing, or from ``Local.generator``."""
    package = type(method).__module__.partition(".")[0]
    theirs = getattr(model, "foreign", False) or package != "regl_app"
    return drawing_from(derive_seed(seed, "layers", step), device) if theirs else nullcontext()


def _default_method(config: TrainConfig | RunConfig) -> Method:
    return Method(config) if isinstance(config, TrainConfig) else make_method(config)


def _local(
    model: nn.Module,
    data: ImageSet,
    real_images: int,
    config: TrainConfig,
    kept: Tensors,
    received: Tensors,
    generator: torch.Generator,
) -> Local:
    head = getattr(model, "head", None)
    classes = head.out_features if isinstance(head, nn.Linear) else int(data.labels.max()) + 1
    real = torch.bincount(data.labels[:real_images], minlength=classes).numpy()
    images, synthetic = data.first(real_images), data.rest(real_images)
    counts = data.counts(classes)
    return Local(
        model,
        counts,
        real,
        kept,
        received,
        real_images=images,
        synthetic_images=synthetic,
        generator=generator,
        drawn_counts=drawn_counts(counts, real, config),
    )


def _soft(data: ImageSet, real_images: int, targets: torch.Tensor) -> torch.Tensor:
    """Return labels ``(N, C)`` of all images: certain for real ones."""
    certain = functional.one_hot(data.labels[:real_images], targets.shape[1])
    return torch.cat([certain.to(targets.dtype), targets])


def _let_train(learnable: Sequence[nn.Parameter], parameters: Iterable[nn.Parameter]) -> None:
    """Let gradients reach ``parameters`` alone; the optimizer then leaves the others as they are.

    What was frozen before training is not ``learnable`` and stays frozen.
    """
    chosen = {id(parameter) for parameter in parameters}
    for parameter in learnable:
        parameter.requires_grad_(id(parameter) in chosen)


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
