"""A ruined adapter is noticed by what it draws; the bundled generator, that can draw, shows it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation import ruin
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adaptation.ruin import LIMITS, MOST, Known, strangeness
from regl_app.generator.adapters import save_adapter, stack_adapters
from regl_app.generator.flow_process import FlowProcess
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import Pool, sample_pool

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLER = GeneratorConfig(precision="fp32", steps=4, guidance=1.0)
LORA = LoraConfig(steps=10, batch_size=8)
DPO = DpoConfig(steps=10, batch_size=8)


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    return Foundation.load(SAMPLER, tuple(f"the digit {name}" for name in DIGITS))


@pytest.fixture(scope="module")
def pool(foundation: Foundation, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path = tmp_path_factory.mktemp("pool") / "pool"
    return sample_pool(foundation, SAMPLER, (1, 28, 28), per_class=3, stream=1, path=path)


@pytest.fixture(scope="module")
def inverted(pool: Pool) -> ImageSet:
    """Return a client's images of a look that the generator does not have."""
    return ImageSet(255 - pool.images.images, pool.labels)


def preferred(foundation: Foundation, pool: Pool, config: DpoConfig) -> Tensors:
    pairs = torch.stack([torch.arange(0, 30, 3), torch.arange(1, 30, 3)])
    tuned = tune_dpo(foundation, pool.latents, pool.labels, pairs, config, LORA, seed=0)
    return tuned.state


@pytest.mark.parametrize(("lr", "ruined"), [(5e-3, False), (2e-2, False), (0.1, True), (1.0, True)])
def test_lora_is_ruined_by_its_rate_alone(
    foundation: Foundation, inverted: ImageSet, lr: float, ruined: bool
) -> None:
    config = LORA.model_copy(update={"lr": lr})
    state = tune_lora(foundation, inverted, config, seed=0).state
    real = Known.real(foundation, inverted, 8)
    found = strangeness(foundation, SAMPLER, state, {}, real)
    assert found > 1.5 * LIMITS["lora"] if ruined else found < LIMITS["lora"] / 1.5
    exact = strangeness(foundation, SAMPLER, state, {}, real, exact=True)
    assert exact <= found
    assert (exact > LIMITS["lora"]) == ruined


@pytest.mark.parametrize(
    ("changes", "ruined"),
    [
        ({}, False),
        ({"beta": 500.0, "lr": 1e-3}, False),
        ({"beta": 5000.0, "lr": 0.05}, True),
        ({"lr": 0.3}, True),
    ],
    ids=str,
)
def test_preference_tuning_is_ruined_by_its_rate(
    foundation: Foundation, pool: Pool, changes: Mapping[str, float], ruined: bool
) -> None:
    state = preferred(foundation, pool, DPO.model_copy(update=changes))
    found = strangeness(foundation, SAMPLER, state, {}, Known.drawn(foundation, pool))
    assert found > 1.5 * LIMITS["dpo"] if ruined else found < LIMITS["dpo"] / 3


def test_an_adapter_that_changes_nothing_is_not_strange_at_all(
    foundation: Foundation, inverted: ImageSet
) -> None:
    state = tune_lora(foundation, inverted, LORA.model_copy(update={"lr": 1e-12}), seed=0).state
    still = {name: value * (".lora_A." in name) for name, value in state.items()}
    known = Known.real(foundation, inverted, 8)
    nothing = replace(known, share=0.0)
    assert strangeness(foundation, SAMPLER, still, {}, nothing, exact=True) == 1.0
    assert strangeness(foundation, SAMPLER, still, still, nothing, exact=True) == 1.0


def test_a_sound_adapter_costs_one_drawing(
    foundation: Foundation, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    predict = Foundation.predict

    def spy(self: Foundation, latents: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        asked.append(len(latents))
        return predict(self, latents, *rest)

    state = preferred(foundation, pool, DPO.model_copy(update={"steps": 1}))
    monkeypatch.setattr(Foundation, "predict", spy)
    strangeness(foundation, SAMPLER, state, {}, Known.drawn(foundation, pool))
    assert asked == [8] * 4 + [16]


def test_what_it_is_tuned_from_judges(
    foundation: Foundation, pool: Pool, inverted: ImageSet
) -> None:
    # LoRA to a look that the frozen model does not know, then preferences: strange only to that.
    look = LORA.model_copy(update={"lr": 2e-2, "steps": 25})
    start = tune_lora(foundation, inverted, look, seed=0).state
    both = stack_adapters(start, preferred(foundation, pool, DPO.model_copy(update={"lr": 1e-6})))
    nothing = replace(Known.drawn(foundation, pool), share=0.0)
    with_start = strangeness(foundation, SAMPLER, both, start, nothing, exact=True)
    assert with_start == pytest.approx(1.0, abs=0.05)
    assert strangeness(foundation, SAMPLER, both, {}, nothing, exact=True) > 1.5


def test_nothing_is_left_behind_and_no_random_number_used(
    foundation: Foundation, pool: Pool, tmp_path: Path
) -> None:
    state = preferred(foundation, pool, DPO.model_copy(update={"steps": 2}))
    weights = copy.deepcopy(foundation.denoiser.state_dict())
    random = torch.get_rng_state()
    first = strangeness(foundation, SAMPLER, state, {}, Known.drawn(foundation, pool))
    assert torch.equal(torch.get_rng_state(), random)
    after = foundation.denoiser.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert not foundation.adapters.filled
    assert strangeness(foundation, SAMPLER, state, {}, Known.drawn(foundation, pool)) == first
    save_adapter(tmp_path / "a", state)
    with foundation.adapter(tmp_path / "a"):  # can be merged as ever
        pass


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_what_draws_no_number_is_as_strange_as_can_be(
    foundation: Foundation, pool: Pool, value: float
) -> None:
    state = preferred(foundation, pool, DPO.model_copy(update={"steps": 1}))
    broken = {name: torch.full_like(each, value) for name, each in state.items()}
    assert strangeness(foundation, SAMPLER, broken, {}, Known.drawn(foundation, pool)) == MOST


def test_it_is_judged_where_noise_is_middling_in_either_process(foundation: Foundation) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    flow = FlowProcess.of(FlowMatchEulerDiscreteScheduler(shift=3.0), torch.device("cpu"), 0.0)
    for process in (foundation.noise_process(), flow):
        timesteps = ruin._timesteps(process, 8)
        ratio = process.level(timesteps).ratio.flatten()
        assert len(timesteps) == 8
        assert ((ratio >= 0.25) & (ratio <= 1.0)).all()
        assert ratio.max() - ratio.min() > 0.4
