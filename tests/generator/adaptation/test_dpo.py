from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.generator.adaptation.dpo import (
    PreferenceBatch,
    PreferenceTuned,
    dpo_loss,
    tune_dpo,
)
from regl_app.generator.adapters import lora_update, save_adapter, stack_adapters
from regl_app.generator.flow_process import FlowProcess
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample_latents
from regl_app.supplement.preference_pairs import rank_pairs

LABELS = torch.arange(3).repeat_interleave(4)
PAIRS = torch.tensor([[0, 4, 8], [1, 5, 9]])
LORA = LoraConfig(layers="all", rank=2, alpha=4.0)
CONFIG = DpoConfig(steps=3, batch_size=2, lr=1e-2, beta=500.0)


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = GeneratorConfig(path=str(second_pipeline), steps=3, precision="fp32")
    return Foundation.load(config, ("the digit zero", "the digit one", "the digit two"))


@pytest.fixture(scope="module")
def latents(foundation: Foundation) -> torch.Tensor:
    return torch.randn((12, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))


def tune(foundation: Foundation, latents: torch.Tensor, seed: int = 1) -> PreferenceTuned:
    return tune_dpo(foundation, latents, LABELS, PAIRS, CONFIG, LORA, seed=seed)


def test_golden_values_of_the_loss() -> None:
    errors = torch.tensor([[0.10, 0.30], [0.20, 0.20]])  # winners, losers
    reference = torch.tensor([[0.11, 0.25], [0.19, 0.20]])
    loss, margin = dpo_loss(errors, reference, beta=100.0)
    # (l_w - l_l) falls from -0.08 to -0.10 in the first pair, rises from 0.05 to 0.10 in the other.
    torch.testing.assert_close(margin, torch.tensor([1.0, -2.5]))
    expected = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(2.5))]
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_golden_errors_under_flow_matching() -> None:
    process = FlowProcess(torch.tensor([0.75, 0.25]))  # sigma of the timesteps 1.5 and 0.5
    clean = torch.stack([torch.full((1, 1, 2), value) for value in (1.0, -1.0, 2.0)])
    pairs = torch.tensor([[0, 2], [1, 1]])
    batch = PreferenceBatch.draw(
        clean, torch.tensor([0, 1, 2]), pairs, process, torch_generator(0), torch.device("cpu")
    )
    assert batch.rows.tolist() == [0, 2, 1, 1]
    random = torch_generator(0)
    timesteps = process.timesteps(2, random)
    noise = torch.randn((2, 1, 1, 2), generator=random).repeat(2, 1, 1, 1)
    sigma = (timesteps / 2).repeat(2).view(-1, 1, 1, 1)
    start = clean[pairs.flatten()]
    torch.testing.assert_close(batch.noisy, (1 - sigma) * start + sigma * noise)
    torch.testing.assert_close(batch.target, noise - start)  # the velocity

    class Still:
        """A denoiser that predicts no motion at all."""

        def predict(self, noisy: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(noisy)

    errors = batch.errors(cast(Foundation, Still()))
    expected = (noise - start).square().mean((1, 2, 3)).view(2, 2)
    torch.testing.assert_close(errors, expected)


def test_it_starts_from_the_reference_itself(foundation: Foundation, latents: torch.Tensor) -> None:
    once = CONFIG.model_copy(update={"steps": 1})
    tuned = tune_dpo(foundation, latents, LABELS, PAIRS, once, LORA, seed=0)
    assert tuned.margins == (0.0,)
    assert tuned.loss == pytest.approx(math.log(2))


def test_tuning_leaves_the_foundation_bit_for_bit_the_same(
    foundation: Foundation, latents: torch.Tensor
) -> None:
    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    state = torch.get_rng_state()
    first, again, other = (tune(foundation, latents, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    after = foundation.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(torch.equal(again.state[name], value) for name, value in first.state.items())
    assert any(not torch.equal(other.state[name], value) for name, value in first.state.items())


def test_it_goes_on_from_a_client_s_own_adapter(
    foundation: Foundation, latents: torch.Tensor, tmp_path: Path
) -> None:
    first = tune(foundation, latents, seed=1).state
    save_adapter(tmp_path / "first", first)
    with foundation.adapter(tmp_path / "first"):
        second = tune(foundation, latents, seed=1)
    assert second.margins[0] == 0.0  # the reference is the adapted model
    assert any(not torch.equal(second.state[name], value) for name, value in first.items())
    save_adapter(tmp_path / "both", stack_adapters(first, second.state))
    with foundation.adapter(tmp_path / "both"):
        stacked = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    for name, frozen in foundation.denoiser.state_dict().items():
        expected = frozen.clone()
        layer = f"unet.{name.removesuffix('.weight')}"
        for state in (first, second.state):
            if f"{layer}.lora_A.weight" in state:
                down, up = (state[f"{layer}.lora_{part}.weight"] for part in "AB")
                expected += lora_update(down, up)
        torch.testing.assert_close(stacked[name], expected)


def test_a_layer_that_one_adapter_leaves_out_keeps_the_other_s_rank() -> None:
    first = {"a.lora_A.weight": torch.ones(2, 5), "a.lora_B.weight": torch.ones(7, 2)}
    second = {"b.lora_A.weight": torch.ones(3, 5), "b.lora_B.weight": torch.ones(7, 3)}
    shapes = {key: tuple(value.shape) for key, value in stack_adapters(first, second).items()}
    assert shapes == {
        "a.lora_A.weight": (2, 5), "a.lora_B.weight": (7, 2),
        "b.lora_A.weight": (3, 5), "b.lora_B.weight": (7, 3),
    }  # fmt: skip


def test_no_pair_is_refused(foundation: Foundation, latents: torch.Tensor) -> None:
    none = torch.empty((2, 0), dtype=torch.int64)
    with pytest.raises(GeneratorError, match="at least one pair"):
        tune_dpo(foundation, latents, LABELS, none, CONFIG, LORA, seed=0)


def test_a_preference_for_bold_strokes_makes_strokes_bolder(tmp_path: Path) -> None:
    sampler = GeneratorConfig(precision="fp32", steps=6)
    foundation = Foundation.load(sampler, ("the digit one", "the digit three"))
    labels = torch.arange(2).repeat_interleave(24)
    places = [*range(24)] * 2

    def ink(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return foundation.decode(latents).add(1).div(2).mean((1, 2, 3))

    def draw(stream: int) -> torch.Tensor:
        return sample_latents(foundation, labels, places, sampler, stream=stream)

    pool = draw(stream=1)
    pairs = rank_pairs(ink(pool).double().numpy(), labels.numpy(), 0.25)
    assert pairs.margin > 0.05
    tuned = tune_dpo(
        foundation,
        pool,
        labels,
        torch.from_numpy(np.stack([pairs.winners, pairs.losers])),
        DpoConfig(steps=20, batch_size=8, lr=2e-3, beta=300.0),
        LoraConfig(),
        seed=0,
    )
    assert np.mean(tuned.margins[-5:]) > np.mean(tuned.margins[:5]) + 1
    assert tuned.loss < 0.5 * math.log(2)
    before = ink(draw(stream=2)).mean()
    save_adapter(tmp_path / "bold", tuned.state)
    with foundation.adapter(tmp_path / "bold"):
        after = ink(draw(stream=2)).mean()
    assert after > 1.15 * before
