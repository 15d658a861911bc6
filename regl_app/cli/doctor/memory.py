"""How much memory a run's images and adapters will take of this machine's device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from regl_app.cli.doctor.finding import Finding
from regl_app.config import RunConfig
from regl_app.config.choices import ADAPTERS
from regl_app.core.errors import GeneratorError
from regl_app.core.formats import size
from regl_app.generator.adaptation.micro_batches import most_at_once
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import (
    ASIDE,
    DrawingNeeds,
    drawing_needs,
    preference_needs,
    tuning_needs,
)


def expected_memory(
    foundation: Foundation, config: RunConfig, device: torch.device | None = None
) -> Finding:
    """Return what drawing and tuning take of one worker, counted by the shapes of all tensors.

    Args:
        foundation: the generator, loaded or without weights.
        config: with no key left at 'auto'.
        device: that it is for; None: the one that it is on.
    """
    device = device or foundation.device
    adapter = ADAPTERS[config.supplement.adapter]
    tunes = config.adapts_to_client_images or adapter.uses_pool
    try:
        drawing = drawing_needs(foundation, config.generator, config.lora)
        tuning = list(_tuning(config, foundation, drawing))
    except GeneratorError as error:
        return Finding("memory", "note", str(error))
    merged = drawing.text + (drawing.merged if tunes else 0)
    count = config.generator.batch_size
    drawn = _Work("draw", count, "image", drawing.of(count) + merged, drawing.of(1) + merged)
    works = [drawn, *tuning]
    told = ", ".join(
        f"{size(drawing.weights + each.whole)} to {each.what} {each.count} {each.of}"
        f"{'s' * (each.count != 1)}"
        for each in works
    )
    words = f"{told} at once, counted by shapes with {size(drawing.weights)} of weights"
    if adapter.compares_models and not tunes:
        words += "; what discrepancy guidance takes beside that is not counted"
    if config.supplements_at_server:
        words += (
            "; the server of regl run, a process of its own, takes as much again (by --engine "
            "in-process and in regl compare it shares a worker's)"
        )
    if device.type != "cuda":
        return Finding("memory", "ok", words)
    room = torch.cuda.get_device_properties(device).total_memory
    words += f"; the device has {size(room)}, some of which is no tensor's"
    room -= ASIDE
    if drawing.weights + max(each.whole for each in works) <= room:
        return Finding("memory", "ok", words)
    return Finding("memory", "note", f"{words}: {_remedy(drawing, works, room)}")


@dataclass(frozen=True)
class _Work:
    """What is done with ``count`` at once, and bytes beside the weights: of all, and at least."""

    what: str
    count: int
    of: str
    whole: int
    least: int


def _tuning(config: RunConfig, foundation: Foundation, drawing: DrawingNeeds) -> Iterator[_Work]:
    text, most = drawing.text, most_at_once(foundation)
    if config.adapts_to_client_images:
        prior = max(config.lora.batch_size // 2, 1) if config.lora.prior_weight > 0 else 0
        count = min(config.lora.batch_size + prior, most)
        needs = tuning_needs(foundation, config.lora)
        yield _Work("tune", count, "image", needs.step.of(count) + text, needs.least + text)
    if ADAPTERS[config.supplement.adapter].uses_pool:
        before = text + (drawing.merged if config.adapts_to_client_images else 0)
        count = min(config.dpo.batch_size, most)
        needs = preference_needs(foundation, config.lora)
        yield _Work("tune", count, "pair", needs.step.of(count) + before, needs.least + before)


def _remedy(drawing: DrawingNeeds, works: Sequence[_Work], room: int) -> str:
    least = max(each.least for each in works)
    tuning = max((each.least for each in works if each.what == "tune"), default=0)
    if drawing.weights + least <= room:
        return "it will be done in smaller parts"
    if drawing.denoiser + least <= room:
        return "denoiser and VAE will take turns on it"
    if drawing.denoiser + tuning > room and tuning:
        return (
            "no adapter can be tuned on it (set supplement.adapter='frozen', lower "
            "generator.image-size, or take a device with more memory)"
        )
    return "the denoiser's layers will come one by one to draw, which is slow"
