"""How long images and adapters take on this machine, told from a few steps of the real thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.activity import Span
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import runs_twice, sample

_PATIENCE = 15.0
"""Seconds that measuring images may take, and that measuring a tuning step may, about."""
_QUICK = 1.0
"""Seconds up to which a measurement is repeated."""
_PASSES_OF_A_STEP = 3
"""Forward and backward: the backward pass is about twice the forward."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a machine takes.

    ``image``: of one image with its decoding, ``at_once`` being made together. ``step``: of an
    optimizer's step of LoRA; None where that is not known: ``untold`` says why.
    """

    image: float
    at_once: int
    step: float | None
    untold: str = ""


def measure_pace(foundation: Foundation, config: GeneratorConfig, lora: LoraConfig) -> Pace:
    """Return how long images and tuning steps take, of two and three steps that are run.

    Noise stands for the images that are tuned on. Nothing is kept, and ``foundation`` is as it was.

    Args:
        foundation: the generator.
        config: steps, guidance, and images at once, fewer of which are made on a slow machine.
        lora: rank, layers and batch size.

    Raises:
        GeneratorError: nothing can be drawn. What cannot be tuned on this machine is no error.
    """

    def images(count: int, steps: int) -> float:
        own = {"steps": steps, "batch_size": count, "guidance_stop": 1.0}
        some = config.model_copy(update=own)
        labels = [place % foundation.num_classes for place in range(count)]
        return _seconds(
            foundation, lambda: sample(foundation, labels, list(range(count)), some, stream=0)
        )

    images(1, 1)  # memory is taken and kernels are chosen
    single = images(1, 1)
    count = max(1, min(config.batch_size, int(_PATIENCE / (3 * single + 1e-9))))
    one = images(count, 1)
    step = max(images(count, 2) - one, 0.0)
    beside = max(one - step, 0.0)
    image = (beside + step * _full_steps(foundation, config)) / count
    one_pass = step / count / (2 if runs_twice(foundation, config) else 1)
    try:
        tuning = _tuning_step(foundation, lora, one_pass)
    except GeneratorError as error:
        return Pace(image, count, None, str(error))
    slow = "an adapter's steps were not measured: they take too long here"
    return Pace(image, count, tuning, slow if tuning is None else "")


def _full_steps(foundation: Foundation, config: GeneratorConfig) -> float:
    """Return how many first steps all steps take as long as: later ones may go without guidance."""
    guided = runs_twice(foundation, config)
    without = config.steps * (1 - config.guidance_stop) if guided else 0.0
    return config.steps - without / 2


def _tuning_step(foundation: Foundation, lora: LoraConfig, one_pass: float) -> float | None:
    """Return the seconds of a tuning step; None where measuring it would take too long."""
    if 4 * lora.batch_size * _PASSES_OF_A_STEP * one_pass > _PATIENCE:
        return None
    side, count = foundation.image_size, lora.batch_size
    noise = torch.randint(
        0,
        256,
        (count, 3, side, side),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    real = ImageSet(noise, torch.arange(count) % foundation.num_classes)
    # Next to no rate: what noise would teach must not be refused as divergence.
    still = {"lr": 1e-12, "prior_weight": 0.0}

    def steps(number: int) -> float:
        some = lora.model_copy(update={"steps": number, **still})
        return _seconds(foundation, lambda: tune_lora(foundation, real, some, seed=0))

    steps(1)
    return max(steps(3) - steps(1), 0.0) / 2


def _seconds(foundation: Foundation, work: Callable[[], object]) -> float:
    """Return how long ``work`` takes, until the device is done with it.

    What is quick is done three times, and the shortest counts: a moment in which the machine was
    busy with something else would decide how many images are made at once.
    """

    def once() -> float:
        taken = Span()
        work()
        if foundation.device.type == "cuda":
            torch.cuda.synchronize(foundation.device)
        return taken.seconds

    first = once()
    return first if first > _QUICK else min(first, once(), once())
