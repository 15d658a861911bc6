"""Expected time is that of the real thing: steps, images at once, guidance."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.generator import pace, placement
from regl_app.generator.foundation import Foundation
from regl_app.generator.pace import measure_pace

LORA = LoraConfig(rank=2, steps=60, batch_size=2)
DPO = DpoConfig(steps=60, batch_size=3)
PASS, DECODE = 0.03, 0.05


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(second_pipeline), steps=10, guidance=3.0, guidance_stop=0.5, precision="fp32"
    )


class Clock:
    """Goes on when a generator works, by a known time for each image."""

    now = 0.0

    def __init__(self) -> None:
        self._began = Clock.now

    @property
    def seconds(self) -> float:
        return Clock.now - self._began


@pytest.fixture
def slow(config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch) -> Foundation:
    """Return a generator whose passes take a known time for each image."""
    found = Foundation.load(config, ("a cat", "a dog"))
    predict, decode = Foundation.predict, Foundation.decode

    def slowly(self: Foundation, latents: torch.Tensor, *told: Any) -> torch.Tensor:
        Clock.now += PASS * len(latents)
        return predict(self, latents, *told)

    def decoded(self: Foundation, latents: torch.Tensor) -> torch.Tensor:
        Clock.now += DECODE * len(latents)
        return decode(self, latents)

    monkeypatch.setattr(pace, "Span", Clock)
    monkeypatch.setattr(Foundation, "predict", slowly)
    monkeypatch.setattr(Foundation, "decode", decoded)
    return found


def test_it_is_what_the_steps_take(
    slow: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_PATIENCE", 3.0)
    found = measure_pace(slow, config, LORA)
    # 5 of 10 steps are guided, two passes each.
    assert found.image == pytest.approx(15 * PASS + DECODE)
    assert found.at_once == int(3.0 / (3 * (2 * PASS + DECODE)))
    assert found.step == pytest.approx(LORA.batch_size * PASS)


def test_a_step_of_preferences_is_timed_where_they_are_tuned(
    slow: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_PATIENCE", 3.0)
    before = {name: value.clone() for name, value in slow.denoiser.state_dict().items()}
    found = measure_pace(slow, config, LORA, DPO)
    # Winner and loser of each pair, by the tuned model and by the reference.
    assert found.preference == pytest.approx(4 * DPO.batch_size * PASS)
    assert found.step == pytest.approx(LORA.batch_size * PASS) and not found.untold_preference
    after = slow.denoiser.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    monkeypatch.setattr(pace, "_PATIENCE", 2.0)  # enough for a step of LoRA alone
    slower = measure_pace(slow, config, LORA, DPO)
    assert slower.step is not None and slower.preference is None
    assert slower.untold_preference == "preference tuning was not measured: it takes too long here"


def test_a_slow_machine_is_not_kept_waiting(
    slow: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_PATIENCE", 0.1)
    found = measure_pace(slow, config, LORA)
    assert found.at_once == 1 and found.step is None
    assert found.untold == "an adapter's steps were not measured: they take too long here"


def test_where_the_denoiser_is_too_large_drawing_is_timed_and_tuning_is_said_to_be_none(
    slow: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_PATIENCE", 3.0)
    monkeypatch.setattr(placement, "can_wait", lambda _: True)
    monkeypatch.setattr(placement, "_learnt", {})
    assert slow.placement.take_turns() and slow.placement.stream_layers()

    def bring(part: object, device: torch.device) -> None:
        if part is slow.denoiser and device is not placement._PROCESSOR:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(placement, "_PROCESSOR", torch.device("meta"))
    monkeypatch.setattr(placement, "_bring", bring)
    found = measure_pace(slow, config, LORA)
    assert found.image == pytest.approx(15 * PASS + DECODE)
    assert found.step is None
    assert "so that no adapter can be tuned on it (supplement.adapter=frozen" in found.untold


def test_the_generator_is_as_it_was(config: GeneratorConfig) -> None:
    foundation = Foundation.load(config, ("a cat", "a dog"))
    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    measure_pace(foundation, config.model_copy(update={"batch_size": 2}), LORA)
    after = foundation.denoiser.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("taken", "told", "times"), [((0.9, 0.1, 0.2), 0.1, 3), ((4.0, 0.1, 0.2), 4.0, 1)]
)
def test_a_busy_moment_does_not_count_where_trying_again_is_cheap(
    monkeypatch: pytest.MonkeyPatch, taken: tuple[float, ...], told: float, times: int
) -> None:
    spans = [SimpleNamespace(seconds=seconds) for seconds in taken]
    monkeypatch.setattr(pace, "Span", lambda: spans.pop(0))
    done: list[int] = []
    place: Any = SimpleNamespace(device=torch.device("cpu"))
    assert pace._seconds(place, lambda: done.append(1)) == told
    assert len(done) == times
