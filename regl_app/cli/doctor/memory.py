"""How much memory a run's images and adapters will take of this machine's device."""

from __future__ import annotations

import torch

from regl_app.cli.doctor.finding import Finding
from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.formats import size
from regl_app.generator.adaptation.micro_batches import most_at_once
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import (
    ASIDE,
    DrawingNeeds,
    TuningNeeds,
    drawing_needs,
    tuning_needs,
)
from regl_app.generator.portions import decoded_at_once

LORA = ("lora", "shared")
_PREFERENCES = "dpo"


def expected_memory(foundation: Foundation, config: RunConfig) -> Finding:
    """Return what drawing and tuning take, counted by the shapes of all tensors.

    Args:
        foundation: the generator, loaded.
        config: with no key left at 'auto'.
    """
    adapter = config.supplement.adapter
    tunes = adapter in (*LORA, _PREFERENCES)
    try:
        drawing = drawing_needs(foundation, config.generator, config.lora)
        tuning = tuning_needs(foundation, config.lora) if tunes else None
    except GeneratorError as error:
        return Finding("memory", "note", str(error))
    batch = config.generator.batch_size
    decoded = min(batch, decoded_at_once(foundation))
    merged = drawing.merged if tunes else 0
    whole = max(drawing.images.of(batch), drawing.decoding.of(decoded)) + merged
    least = drawing.one + merged
    works = [f"{size(drawing.weights + whole)} to draw {_counted(batch, 'image')}"]
    if tuning is not None:
        count, of, more, one = _tuning(foundation, config, drawing, tuning)
        works.append(f"{size(drawing.weights + more)} to tune {_counted(count, of)}")
        whole, least = max(whole, more), max(least, one)
    words = f"{', '.join(works)} at once, counted by shapes with {size(drawing.weights)} of weights"
    if adapter == "guidance":
        words += "; what discrepancy guidance takes beside that is not counted"
    if foundation.device.type != "cuda":
        return Finding("memory", "ok", words)
    room = torch.cuda.get_device_properties(foundation.device).total_memory
    words += f"; the device has {size(room)}, some of which is no tensor's"
    room -= ASIDE
    if drawing.weights + whole <= room:
        return Finding("memory", "ok", words)
    return Finding("memory", "note", f"{words}: {_remedy(drawing, least, room, tunes)}")


def _tuning(
    foundation: Foundation, config: RunConfig, drawing: DrawingNeeds, tuning: TuningNeeds
) -> tuple[int, str, int, int]:
    """Return what is tuned on at once, what it is, the bytes of that and the least bytes."""
    most = most_at_once(foundation)
    if config.supplement.adapter == _PREFERENCES:
        before = drawing.merged if config.dpo.start == "lora" else 0
        count = min(config.dpo.batch_size, most)
        return count, "pair", tuning.pairs.of(count) + before, tuning.least_pair + before
    prior = max(config.lora.batch_size // 2, 1) if config.lora.prior_weight > 0 else 0
    count = min(config.lora.batch_size + prior, most)
    return count, "image", tuning.images.of(count), tuning.least_image


def _remedy(drawing: DrawingNeeds, least: int, room: int, tunes: bool) -> str:
    if drawing.weights + least <= room:
        return "it will be done in smaller parts"
    if drawing.denoiser + least <= room:
        return "denoiser and VAE will take turns on it"
    if tunes:
        return (
            "no adapter can be tuned on it (set supplement.adapter='frozen', lower "
            "generator.image-size, or take a device with more memory)"
        )
    return "the denoiser's layers will come one by one, which is slow"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
