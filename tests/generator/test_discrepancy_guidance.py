from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.data.images import to_float
from regl_app.data.resize import fit, fit_floats
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance, log_gap
from regl_app.generator.foundation import Foundation
from regl_app.generator.noise_schedule import DiffusionProcess
from regl_app.generator.sampling import sample

SHAPE = (1, 16, 16)
LABELS, PLACES = [0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]
SAMPLER = GeneratorConfig(steps=4, guidance=1.5, precision="fp32")


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = SAMPLER.model_copy(update={"path": str(second_pipeline)})
    return Foundation.load(config, ("the digit zero", "the digit one", "the digit two"))


def classifier(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    return model.requires_grad_(False)


GLOBAL, LOCAL = classifier(1), classifier(2)


def guidance(foundation: Foundation, strength: float, limit: float = 0.2) -> DiscrepancyGuidance:
    return DiscrepancyGuidance(
        foundation.noise_process(), log_gap(GLOBAL, LOCAL), SHAPE, strength, limit
    )


def gap(images: torch.Tensor) -> float:
    seen = to_float(fit(images, SHAPE))
    return float(log_gap(GLOBAL, LOCAL)(seen, torch.tensor(LABELS)).mean())


def draw(foundation: Foundation, guide: DiscrepancyGuidance | None) -> torch.Tensor:
    return sample(foundation, LABELS, PLACES, SAMPLER, stream=1, discrepancy_guidance=guide)


def test_strength_zero_changes_no_bit(foundation: Foundation) -> None:
    assert torch.equal(draw(foundation, guidance(foundation, 0.0)), draw(foundation, None))


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_it_raises_the_discrepancy_with_any_scheduler(foundation: Foundation, name: str) -> None:
    import diffusers

    scheduler = getattr(diffusers, name).from_config(foundation.scheduler.config)
    model = replace(foundation, scheduler=scheduler)
    before, after = gap(draw(model, None)), gap(draw(model, guidance(model, 30.0)))
    assert after > before + 0.02


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_prediction_is_split_and_put_together_again(prediction: str) -> None:
    process = DiffusionProcess(torch.tensor([0.3]), prediction, 0.0)
    noise, clean = torch.randn((2, 2, 4, 3, 3), generator=torch.Generator().manual_seed(0))
    level = process.level(torch.tensor(0))
    noisy, target = process.apply(clean, torch.zeros(2, dtype=torch.int64), noise)
    found = process.split(noisy, target, level)
    torch.testing.assert_close(found, (noise, clean))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_is_adjusted_alike(foundation: Foundation, prediction: str) -> None:
    frozen = DiffusionProcess.of(foundation.scheduler, foundation.device, 0.0)
    process = replace(frozen, prediction_type=prediction)
    guide = replace(guidance(foundation, 0.5), process=process)
    draws = torch.Generator().manual_seed(0)
    noise, clean = torch.randn((2, 6, *foundation.latent_shape), generator=draws)
    time, labels = torch.tensor(400), torch.tensor(LABELS)
    abar = process.alphas_cumprod[time]
    noisy, target = process.apply(clean, time.repeat(6), noise)
    adjusted = guide.adjust(foundation, noisy, target, time, labels)
    moved, _ = process.split(noisy, adjusted, process.level(time))
    # eps' = eps - w sqrt(1 - abar) / sqrt(abar) grad_x0, as far as the limit allows.
    seen = clean.clone().requires_grad_()
    images = fit_floats(foundation.decode(seen), SHAPE).clamp(-1, 1)
    (gradient,) = torch.autograd.grad(log_gap(GLOBAL, LOCAL)(images, labels).sum(), seen)
    shift = 0.5 * ((1 - abar) / abar).sqrt() * gradient
    norms = shift.flatten(1).norm(dim=1), noise.flatten(1).norm(dim=1)
    scale = (0.2 * norms[1] / norms[0]).clamp(max=1.0).view(-1, 1, 1, 1)
    torch.testing.assert_close(moved, noise - scale * shift, atol=1e-4, rtol=1e-4)


def test_no_correction_exceeds_the_limit(foundation: Foundation) -> None:
    guide = guidance(foundation, 1e6, limit=0.1)
    noise = torch.randn((6, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))
    adjusted = guide.adjust(foundation, noise, noise, torch.tensor(900), torch.tensor(LABELS))
    moved = (adjusted - noise).flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, torch.full((6,), 0.1))


def test_pure_noise_is_adjusted_without_overflow(foundation: Foundation) -> None:
    process = DiffusionProcess(torch.zeros(1), "v_prediction", 0.0)
    guide = replace(guidance(foundation, 1.0), process=process)
    noise = torch.randn((6, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))
    adjusted = guide.adjust(foundation, noise, noise, torch.tensor(0.0), torch.tensor(LABELS))
    assert adjusted.isfinite().all()
