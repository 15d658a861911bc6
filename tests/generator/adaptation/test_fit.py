"""The loop that every adapter is tuned by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.fit import fit_layers, gradient_scaler, refuse_divergence
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adaptation.micro_batches import BatchLoss, MicroBatches
from regl_app.generator.foundation import Foundation
from regl_app.generator.learning_rate import warm_cosine


class Roomy(MicroBatches):
    """Batches of one, without a denoiser."""

    def __init__(self) -> None:
        still = SimpleNamespace(is_gradient_checkpointing=False)
        anywhere = SimpleNamespace(
            digest="", image_size=8, precision="fp32", device=torch.device("cpu"), denoiser=still
        )
        super().__init__(cast(Foundation, anywhere), "a test", "image", "")


def one(loss: Callable[[], torch.Tensor]) -> Callable[[], BatchLoss]:
    """Return what draws batches of one example that loses ``loss``."""
    return lambda: BatchLoss(1, lambda _: loss().reshape(1))


def test_golden_learning_rates() -> None:
    rate = warm_cosine(10, 2)
    assert [rate(step) for step in range(3)] == [0.5, 1.0, 1.0]
    assert rate(6) == pytest.approx(0.5)
    assert rate(10) == pytest.approx(0.0)
    assert warm_cosine(1, 1)(0) == 1.0


def test_it_is_clipped_adamw_at_that_rate_and_reports_every_tenth_step() -> None:
    parameter, twin = (torch.nn.Parameter(torch.tensor([5.0, -3.0])) for _ in range(2))
    seen: list[tuple[int, int]] = []
    losses = fit_layers(
        [parameter],
        one(lambda: parameter.square().sum()),
        Roomy(),
        steps=25,
        lr=0.1,
        progress=lambda *at: seen.append(at),
    )
    optimizer = torch.optim.AdamW([twin], lr=0.1, weight_decay=0.0)
    rate = warm_cosine(25, 2)
    for step in range(25):
        optimizer.param_groups[0]["lr"] = 0.1 * rate(step)
        optimizer.zero_grad()
        loss = twin.square().sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([twin], 1.0)
        optimizer.step()
        torch.testing.assert_close(losses[step], loss.detach())
    torch.testing.assert_close(parameter, twin)
    assert seen == [(10, 25), (20, 25), (25, 25)]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_divergence_names_the_key_to_lower(loss: float) -> None:
    told = r"tuning diverged: .* 7 steps \(lower lora.lr, now 3.0"
    with pytest.raises(GeneratorError, match=rf"{told}\)"):
        refuse_divergence("tuning", loss, 7, "lora.lr", 3.0, "bf16")
    with pytest.raises(GeneratorError, match=rf"{told}, or set generator.precision=bf16 or fp32"):
        refuse_divergence("tuning", loss, 7, "lora.lr", 3.0, "fp16")
    refuse_divergence("tuning", 0.1, 7, "lora.lr", 3.0, "fp16")


def small_gradients(scaler: torch.amp.GradScaler | None) -> float:
    """Return where a parameter gets whose gradient is 1e-8 in fp16, whose smallest is 6e-8."""
    parameter = torch.nn.Parameter(torch.tensor([5.0]))
    fit_layers(
        [parameter],
        one(lambda: (parameter.half() * 1.0).float().sum() * 1e-8),
        Roomy(),
        steps=20,
        lr=0.1,
        scaler=scaler,
    )
    return float(parameter.detach())


def test_gradients_below_fp16_are_not_lost() -> None:
    assert small_gradients(None) == 5.0  # they vanish: nothing is learnt
    scaled = small_gradients(torch.amp.GradScaler("cpu"))
    assert scaled < 4.6
    # And the update is what fp32 makes of it: scaled back before it is clipped.
    exact = torch.nn.Parameter(torch.tensor([5.0]))
    fit_layers([exact], one(lambda: exact.sum() * 1e-8), Roomy(), steps=20, lr=0.1)
    assert scaled == pytest.approx(float(exact.detach()), rel=1e-3)


def test_clipping_sees_the_gradients_themselves() -> None:
    ends = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        parameter = torch.nn.Parameter(torch.tensor([5.0, -3.0]))

        def loss(at: torch.nn.Parameter = parameter) -> torch.Tensor:
            return at.square().sum() + 0.01 * at.sum()

        fit_layers([parameter], one(loss), Roomy(), steps=9, lr=0.1, scaler=scaler)
        ends.append(parameter.detach())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    parameter = torch.nn.Parameter(torch.tensor([5.0]))
    scaler = torch.amp.GradScaler("cpu")
    factors = iter([float("inf"), 1.0, 1.0])
    draw = one(lambda: parameter.sum() * next(factors))
    fit_layers([parameter], draw, Roomy(), steps=3, lr=0.1, scaler=scaler)
    assert scaler.get_scale() == 2.0**15
    assert 4.0 < float(parameter.detach()) < 5.0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_only_fp16_is_scaled(second_pipeline: Path, precision: str) -> None:
    config = GeneratorConfig(path=str(second_pipeline))
    foundation = Foundation.load(config, ("a cat", "a dog"))
    scaler = gradient_scaler(replace(foundation, precision=precision))
    assert (scaler is not None) == (precision == "fp16")
    assert scaler is None or scaler.is_enabled()


def test_both_tunings_scale_in_fp16(second_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GeneratorConfig(path=str(second_pipeline))
    foundation = replace(Foundation.load(config, ("a cat", "a dog")), precision="fp16")
    made: list[torch.amp.GradScaler] = []

    class Spy(torch.amp.GradScaler):
        def __init__(self, device: str) -> None:
            super().__init__(device)
            self.stepped = 0
            made.append(self)

        def step(self, *args: Any, **kwargs: Any) -> float | None:
            self.stepped += 1
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.amp, "GradScaler", Spy)
    lora = LoraConfig(steps=3, rank=2, batch_size=2)
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8)
    labels = torch.tensor([0, 0, 1, 1])
    state = tune_lora(foundation, ImageSet(images, labels), lora, seed=0).state
    latents = torch.randn((4, *foundation.latent_shape))
    pairs = torch.tensor([[0, 2], [1, 3]])
    tune_dpo(foundation, latents, labels, pairs, DpoConfig(steps=2, batch_size=2), lora, seed=0)
    assert [getattr(each, "stepped", 0) for each in made] == [3, 2]
    ups = [value for name, value in state.items() if ".lora_B." in name]
    assert all(value.isfinite().all() for value in ups)
    assert any(value.any() for value in ups)
