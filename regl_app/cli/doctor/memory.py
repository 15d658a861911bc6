"""How much memory a run's images and adapters will take of this machine's device."""

from __future__ import annotations

import torch

from regl_app.cli.doctor.finding import Finding
from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.formats import size
from regl_app.generator.adaptation.micro_batches import most_at_once
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import MemoryNeeds, memory_needs
from regl_app.generator.portions import decoded_at_once

TUNED = ("lora", "shared")
_PREFERRED = "dpo"


def expected_memory(foundation: Foundation, config: RunConfig) -> Finding:
    """Return what drawing and tuning take, counted by the shapes of all tensors.

    Args:
        foundation: the generator, loaded.
        config: with no key left at 'auto'.
    """
    try:
        needs = memory_needs(foundation, config.generator, config.lora)
    except GeneratorError as error:
        return Finding("memory", "note", str(error))
    works = [_drawing(foundation, needs, config.generator.batch_size)]
    adapter = config.supplement.adapter
    if adapter in TUNED:
        count = min(config.lora.batch_size, most_at_once(foundation))
        works.append((f"to tune {_counted(count, 'image')}", needs.tuning.of(count)))
        least = needs.least_tuning
    elif adapter == _PREFERRED:
        count = min(config.dpo.batch_size, most_at_once(foundation))
        works.append((f"to tune {_counted(count, 'pair')}", needs.preferring.of(count)))
        least = needs.least_preferring
    else:
        least = min(needs.drawing.one, needs.decoding.one)
    told = ", ".join(f"{size(needs.weights + more)} {what}" for what, more in works)
    words = (
        f"the device holds {told} at once, counted by shapes with {size(needs.weights)} of weights"
    )
    if foundation.device.type != "cuda":
        return Finding("memory", "ok", words)
    total = torch.cuda.get_device_properties(foundation.device).total_memory
    words += f"; it has {size(total)}"
    if needs.weights + max(more for _, more in works) <= total:
        return Finding("memory", "ok", words)
    if needs.weights + least <= total:
        return Finding("memory", "note", f"{words}: fewer at once will go through it")
    return Finding("memory", "note", f"{words}: parts will wait in the processor's memory")


def _drawing(foundation: Foundation, needs: MemoryNeeds, batch: int) -> tuple[str, int]:
    decoded = min(batch, decoded_at_once(foundation))
    return f"to draw {_counted(batch, 'image')}", max(
        needs.drawing.of(batch), needs.decoding.of(decoded)
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
