"""Flow matching: its values are diffusers' own, and a checkpoint with it goes the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance, log_gap
from regl_app.generator.flow_process import FlowProcess
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.sampling import sample_latents

CPU = torch.device("cpu")
SAMPLER = GeneratorConfig(steps=4, guidance=1.0, precision="fp32")


def scheduler(shift: float) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def load(pipeline: Path, folder: Path, solver: FlowMatchEulerDiscreteScheduler) -> Foundation:
    """Return ``pipeline`` with another scheduler, written to ``folder`` and loaded from there."""
    StableDiffusionPipeline.from_pretrained(pipeline, scheduler=solver).save_pretrained(folder)
    config = SAMPLER.model_copy(update={"path": str(folder)})
    return Foundation.load(config, ("the digit zero", "the digit one"))


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Foundation:
    return load(second_pipeline, tmp_path_factory.mktemp("flow"), scheduler(3.0))


def test_golden_values() -> None:
    process = FlowProcess.of(scheduler(1.0), CPU, 0.0)
    clean, noise = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), -1.0)
    noisy, velocity = process.apply(clean, torch.tensor([250.0, 1000.0]), noise)
    assert noisy.flatten().tolist() == [0.75 * 3 - 0.25, -1.0]
    assert velocity.flatten().tolist() == [-4.0, -4.0]
    assert process.level(torch.tensor(250.0)).ratio.item() == pytest.approx(1 / 3)
    assert process.weights(torch.tensor([1.0, 999.0])).tolist() == [1, 1]


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noisy_latents_are_those_of_diffusers(shift: float) -> None:
    solver = scheduler(shift)
    process = FlowProcess.of(solver, CPU, 0.0)
    clean, noise = torch.randn((2, 5, 4, 3, 3), generator=torch.Generator().manual_seed(0))
    timesteps = process.timesteps(5, torch.Generator().manual_seed(1))
    expected = solver.scale_noise(clean, timesteps, noise)  # knows training's timesteps alone
    noisy, velocity = process.apply(clean, timesteps, noise)
    torch.testing.assert_close(noisy, expected)
    torch.testing.assert_close(velocity, noise - clean)
    found = process.split(noisy, velocity, process.level(timesteps))
    torch.testing.assert_close(found, (noise, clean))


def test_one_step_of_the_true_velocity_leads_to_the_clean_latents() -> None:
    solver = scheduler(3.0)
    process = FlowProcess.of(solver, CPU, 0.0)
    solver.set_timesteps(4)
    clean, noise = torch.randn((2, 1, 4, 3, 3), generator=torch.Generator().manual_seed(0))
    latents = process.start(solver, noise)
    for timestep in solver.timesteps:
        level = process.level(timestep)
        torch.testing.assert_close(latents, level.signal * clean + level.noise * noise)
        velocity = process.target(clean, noise, level)
        latents = solver.step(velocity, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, clean)


def test_timesteps_are_stratified_and_those_of_training() -> None:
    solver = scheduler(3.0)
    process = FlowProcess.of(solver, CPU, 0.0)
    drawn = process.timesteps(10, torch.Generator().manual_seed(0)).sort(descending=True).values
    parts = solver.timesteps.view(10, 100)
    assert all(drawn[i] in parts[i] for i in range(10))


def test_a_level_is_never_so_noisy_that_nothing_can_be_divided_by_its_signal() -> None:
    process = FlowProcess.of(scheduler(1.0), CPU, 0.0)
    level = process.level(torch.tensor(1000.0), least=1e-4)
    assert level.signal.item() == pytest.approx(1e-2)
    assert level.ratio.isfinite().all()


def test_sampling_is_the_euler_steps_of_diffusers(foundation: Foundation) -> None:
    found = sample_latents(foundation, [0, 1], [0, 0], SAMPLER, stream=5)
    solver = foundation.new_scheduler(SAMPLER.steps)
    latents = torch.stack(
        [torch.randn(foundation.latent_shape, generator=torch_generator(5, c, 0)) for c in (0, 1)]
    )
    for timestep in solver.timesteps:
        with torch.no_grad():
            velocity = foundation.predict(latents, timestep, torch.tensor([0, 1]))
        latents = solver.step(velocity, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(found, latents)


def test_the_fewer_steps_are_left_the_closer_to_the_picture(foundation: Foundation) -> None:
    starts = encode_latents(foundation, torch.full((2, 3, 48, 48), 200, dtype=torch.uint8))

    def distance(strength: float) -> float:
        chosen = SAMPLER.model_copy(update={"image_strength": strength, "steps": 10})
        made = sample_latents(foundation, [0, 1], [0, 0], chosen, stream=5, starts=starts)
        return float((made - starts).abs().mean())

    assert distance(0.1) < distance(0.9)


def test_it_is_tuned_and_led_to_what_a_client_lacks(foundation: Foundation) -> None:
    images = torch.full((8, 3, 48, 48), 30, dtype=torch.uint8)
    real = ImageSet(images, torch.arange(8) % 2)
    config = LoraConfig(layers="all", steps=30, batch_size=4, lr=1e-2)
    idle = config.model_copy(update={"lr": 1e-9})
    assert (
        tune_lora(foundation, real, config, seed=0).loss
        < tune_lora(foundation, real, idle, seed=0).loss
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = [
            torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))
            for _ in range(2)
        ]
    gap = log_gap(*(model.requires_grad_(False) for model in models))
    guidance = DiscrepancyGuidance(foundation.noise_process(), gap, (3, 16, 16), 5.0, 0.5)

    def mean_gap(guidance: DiscrepancyGuidance | None) -> float:
        latents = sample_latents(
            foundation, [0, 1], [0, 0], SAMPLER, stream=5, discrepancy_guidance=guidance
        )
        with torch.no_grad():
            seen = torch.nn.functional.interpolate(
                foundation.decode(latents), size=16, mode="bilinear", antialias=True
            )
            return float(gap(seen.clamp(-1, 1), torch.tensor([0, 1])).mean())

    assert mean_gap(guidance) > mean_gap(None)
