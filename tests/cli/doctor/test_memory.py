"""What the doctor says of a card's memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regl_app.cli.doctor import memory
from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.generator.memory_needs import DrawingNeeds, Need, TuningNeeds

GB = 10**9
DRAWING = DrawingNeeds(
    denoiser=4 * GB,
    vae=GB,
    images=Need(2 * GB, GB),
    decoding=Need(3 * GB, GB),
    decoded_at_once=2,
    merged=GB,
)
BY_IMAGES = TuningNeeds(Need(3 * GB, 2 * GB), least=GB)
BY_PAIRS = TuningNeeds(Need(6 * GB, 4 * GB), least=5 * GB)
KEYS: dict[str, Scalar] = {"generator.batch-size": 8, "lora.batch-size": 4, "dpo.batch-size": 2}


def told(
    monkeypatch: pytest.MonkeyPatch, device: str, room: float, adapter: str, **more: Scalar
) -> Any:
    """Return what is said of a device with ``room`` gigabytes for tensors."""
    monkeypatch.setattr(memory, "drawing_needs", lambda *_: DRAWING)
    counted: list[str] = []
    monkeypatch.setattr(memory, "tuning_needs", lambda *_: counted.append("images") or BY_IMAGES)
    monkeypatch.setattr(memory, "preference_needs", lambda *_: counted.append("pairs") or BY_PAIRS)
    properties = SimpleNamespace(total_memory=int(room * GB) + memory.ASIDE)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    foundation: Any = SimpleNamespace(device=torch.device(device), image_size=1024)
    keys = {"method": "regl", "supplement.adapter": adapter, **KEYS}
    config = RunConfig.from_flat(keys | more)
    finding = memory.expected_memory(foundation, config)
    both = {"lora": ["images"], "dpo": ["pairs"]}.get(adapter, [])
    # What a run does not do is not counted, which takes seconds.
    assert counted == (["images", "pairs"] if config.dpo.start == "lora" and both else both)
    return finding


def test_batches_count_as_they_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a processor one of 1024 pixels at a time is tuned on.
    finding = told(monkeypatch, "cpu", 0, "lora")
    assert finding.status == "ok"
    assert "15.0 GB to draw 8 images, 8.0 GB to tune 1 image at once" in finding.detail
    assert finding.detail.endswith("with 5.0 GB of weights")
    assert "11.0 GB to tune 1 pair at once" in told(monkeypatch, "cpu", 0, "dpo").detail
    frozen = told(monkeypatch, "cpu", 0, "frozen").detail
    assert frozen.startswith("14.0 GB to draw 8 images at once, counted")
    assert (
        "guidance takes beside that is not counted"
        in told(monkeypatch, "cpu", 0, "guidance").detail
    )
    assert "server" not in frozen
    shared = told(monkeypatch, "cpu", 0, "frozen", method="feddpd").detail
    assert "the server of regl run, a process of its own, takes as much again" in shared
    two = told(monkeypatch, "cuda:0", 99, "dpo", **{"dpo.start": "lora"})
    assert "14.0 GB to tune 4 images, 16.0 GB to tune 2 pairs" in two.detail
    prior = told(monkeypatch, "cuda:0", 99, "lora", **{"lora.prior-weight": 0.5})
    assert "18.0 GB to tune 6 images" in prior.detail


def test_what_the_prompts_take_comes_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.DRAWING", replace(DRAWING, text=GB))
    finding = told(monkeypatch, "cpu", 0, "dpo", **{"dpo.start": "lora"})
    assert "16.0 GB to draw 8 images, 9.0 GB to tune 1 image, 13.0 GB to tune" in finding.detail
    assert told(monkeypatch, "cpu", 0, "frozen").detail.startswith("15.0 GB to draw")


@pytest.mark.parametrize(
    ("adapter", "room", "expected"),
    [
        ("lora", 15, ""),
        ("lora", 14.9, "in smaller parts"),
        ("lora", 9, "in smaller parts"),  # one image is drawn: 5 + 3 + 1
        ("lora", 8.9, "take turns"),
        ("lora", 7.9, "one by one"),  # tuning, activations computed twice, takes 4 + 1
        ("lora", 4.9, "no adapter can be tuned"),
        ("dpo", 10, "in smaller parts"),
        ("dpo", 9.9, "take turns"),
        ("dpo", 8.9, "no adapter can be tuned"),
        ("frozen", 14, ""),
        ("frozen", 8, "in smaller parts"),
        ("frozen", 7, "take turns"),
        ("frozen", 6.9, "one by one"),
    ],
)
def test_a_card_is_held_against_it(
    monkeypatch: pytest.MonkeyPatch, adapter: str, room: float, expected: str
) -> None:
    finding = told(monkeypatch, "cuda:0", room, adapter)
    assert finding.status == ("note" if expected else "ok")
    assert expected in finding.detail


def test_what_cannot_be_counted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise GeneratorError("cannot be counted: it asks for a value")

    foundation: Any = SimpleNamespace(device=torch.device("cpu"), image_size=32)
    monkeypatch.setattr(memory, "drawing_needs", fails)
    finding = memory.expected_memory(foundation, RunConfig.from_flat({"method": "regl"}))
    assert (finding.status, finding.detail) == ("note", "cannot be counted: it asks for a value")
