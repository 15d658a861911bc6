"""What the doctor says of a card's memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regl_app.cli.doctor import memory
from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.generator.memory_needs import MemoryNeeds, Need

GB = 10**9
NEEDS = MemoryNeeds(
    denoiser=4 * GB,
    vae=GB,
    drawing=Need(GB, GB),
    decoding=Need(2 * GB, GB),
    tuning=Need(3 * GB, 2 * GB),
    preferring=Need(6 * GB, 4 * GB),
    least_tuning=2 * GB,
    least_preferring=4 * GB,
)
KEYS: dict[str, Scalar] = {"generator.batch-size": 8, "lora.batch-size": 4, "dpo.batch-size": 2}


def told(monkeypatch: pytest.MonkeyPatch, device: str, total: int, adapter: str) -> Any:
    """Return what is said on a device of ``total`` gigabytes."""
    monkeypatch.setattr(memory, "memory_needs", lambda *_: NEEDS)
    properties = SimpleNamespace(total_memory=total * GB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    foundation: Any = SimpleNamespace(device=torch.device(device), image_size=1024)
    config = RunConfig.from_flat({"method": "regl", "supplement.adapter": adapter, **KEYS})
    return memory.expected_memory(foundation, config)


def test_batches_count_as_they_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a processor one of 1024 pixels at a time is tuned on, and two are decoded.
    finding = told(monkeypatch, "cpu", 0, "lora")
    assert finding.status == "ok"
    assert "13.0 GB to draw 8 images, 8.0 GB to tune 1 image at once" in finding.detail
    assert finding.detail.endswith("with 5.0 GB of weights")
    assert "11.0 GB to tune 1 pair at once" in told(monkeypatch, "cpu", 0, "dpo").detail
    assert "tune" not in told(monkeypatch, "cpu", 0, "frozen").detail


def test_a_card_is_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = told(monkeypatch, "cuda:0", 16, "lora")
    assert fits.status == "ok" and fits.detail.endswith("it has 16.0 GB")
    assert "14.0 GB to tune 4 images at once" in fits.detail
    fewer = told(monkeypatch, "cuda:0", 12, "lora")
    assert fewer.status == "note" and "fewer at once will go through it" in fewer.detail
    small = told(monkeypatch, "cuda:0", 6, "lora")
    assert small.status == "note" and "wait in the processor's memory" in small.detail
    assert told(monkeypatch, "cuda:0", 14, "dpo").status == "note"
    assert "15.0 GB to tune 2 pairs" in told(monkeypatch, "cuda:0", 16, "dpo").detail


def test_what_cannot_be_counted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise GeneratorError("cannot be counted: it asks for a value")

    foundation: Any = SimpleNamespace(device=torch.device("cpu"), image_size=32)
    monkeypatch.setattr(memory, "memory_needs", fails)
    finding = memory.expected_memory(foundation, RunConfig.from_flat({"method": "regl"}))
    assert (finding.status, finding.detail) == ("note", "cannot be counted: it asks for a value")
