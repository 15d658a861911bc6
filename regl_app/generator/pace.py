"""How long images and adapters take on this machine, told from a few steps of the real thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.activity import Span
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import runs_twice, sample

_PATIENCE = 15.0
"""Seconds that measuring images may take, and that measuring a step of each tuning may, about."""
_QUICK = 1.0
"""Seconds up to which a measurement is repeated."""
_PASSES_OF_A_STEP = 3
"""Forward and backward: the backward pass is about twice the forward."""
_PASSES_OF_A_PAIR = 2 * (_PASSES_OF_A_STEP + 1)
"""Of winner and loser, by the tuned model and forward by the reference."""
_STILL = 1e-12
"""A rate that is next to none: what noise would teach must not be refused as divergence."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a machine takes.

    ``image``: of one image with its decoding, ``at_once`` being made together. ``step``: of an
    optimizer's step of LoRA; ``preference``: of one of preference tuning. None where that is not
    known, and ``untold`` or ``untold_preference`` says why, or no preferences are tuned.
    """

    image: float
    at_once: int
    step: float | None
    untold: str = ""
    preference: float | None = None
    untold_preference: str = ""


def measure_pace(
    foundation: Foundation, config: GeneratorConfig, lora: LoraConfig, dpo: DpoConfig | None = None
) -> Pace:
    """Return how long images and tuning steps take, of two and three steps that are run.

    Noise stands for the images that are tuned on. Nothing is kept, and ``foundation`` is as it was.

    Args:
        foundation: the generator.
        config: steps, guidance, and images at once, fewer of which are made on a slow machine.
        lora: rank, layers and batch size.
        dpo: pairs a step; None: the run tunes no preferences.

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
    tuning, untold = _step(
        "an adapter's steps were not measured: they take",
        lora.batch_size * _PASSES_OF_A_STEP * one_pass,
        lambda: _tuning_step(foundation, lora),
    )
    if dpo is None:
        return Pace(image, count, tuning, untold)
    preference, why = _step(
        "preference tuning was not measured: it takes",
        dpo.batch_size * _PASSES_OF_A_PAIR * one_pass,
        lambda: _preference_step(foundation, dpo, lora),
    )
    return Pace(image, count, tuning, untold, preference, why)


def _full_steps(foundation: Foundation, config: GeneratorConfig) -> float:
    """Return how many first steps all steps take as long as: later ones may go without guidance."""
    guided = runs_twice(foundation, config)
    without = config.steps * (1 - config.guidance_stop) if guided else 0.0
    return config.steps - without / 2


def _step(what: str, about: float, measure: Callable[[], float]) -> tuple[float | None, str]:
    """Return the seconds of a tuning step; None, and why, where it cannot be or takes too long."""
    if 4 * about > _PATIENCE:
        return None, f"{what} too long here"
    try:
        return measure(), ""
    except GeneratorError as error:
        return None, str(error)


def _tuning_step(foundation: Foundation, lora: LoraConfig) -> float:
    side, count = foundation.image_size, lora.batch_size
    noise = torch.randint(
        0,
        256,
        (count, 3, side, side),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    real = ImageSet(noise, torch.arange(count) % foundation.num_classes)

    def steps(number: int) -> float:
        some = lora.model_copy(update={"steps": number, "lr": _STILL, "prior_weight": 0.0})
        return _seconds(foundation, lambda: tune_lora(foundation, real, some, seed=0))

    return _of_one(steps)


def _preference_step(foundation: Foundation, dpo: DpoConfig, lora: LoraConfig) -> float:
    count = 2 * dpo.batch_size
    random = torch.Generator().manual_seed(0)
    latents = torch.randn((count, *foundation.latent_shape), generator=random)
    rows, pairs = torch.arange(count) % foundation.num_classes, torch.arange(count).view(2, -1)

    def steps(number: int) -> float:
        some = dpo.model_copy(update={"steps": number, "lr": _STILL})
        return _seconds(
            foundation, lambda: tune_dpo(foundation, latents, rows, pairs, some, lora, seed=0)
        )

    return _of_one(steps)


def _of_one(steps: Callable[[int], float]) -> float:
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
