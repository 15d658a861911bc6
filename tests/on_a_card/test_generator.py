"""Generators draw and are tuned on a pretended card as on the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.precision import DTYPES, Precision
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.generator import held_weights, placement, portions
from regl_app.generator.adaptation import micro_batches
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adaptation.ruin import LIMITS, Known, strangeness
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance, log_gap
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.image_prompts import ImagePrompts
from regl_app.generator.ip_adapter import IpAdapter
from regl_app.generator.pool import sample_pool
from regl_app.generator.sampling import sample
from regl_app.learning.models.cnn import SmallCnn
from tests.generator.test_on_cuda import assert_merged_alike
from tests.on_a_card.card_tensors import CARD
from tests.on_a_card.pretended_card import pretended_card

CPU = torch.device("cpu")
CONCEPTS = ("the digit zero", "the digit one", "the digit two")
LABELS, PLACES = [0, 1, 2, 0], [0, 0, 0, 1]
LORA = LoraConfig(layers="attention", rank=2, alpha=2.0, steps=3, batch_size=4, lr=1e-3)
Load = Callable[..., Foundation]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    for learnt in (portions._fits, placement._learnt, micro_batches._learnt):
        learnt.clear()


def settings(pipeline: Path, precision: str = "fp32", **keys: Any) -> GeneratorConfig:
    told = {"path": str(pipeline), "precision": precision, "steps": 3, "guidance": 2.0}
    return GeneratorConfig.model_validate({**told, "guidance_stop": 1.0, **keys})


def draw(foundation: Foundation, config: GeneratorConfig, **told: Any) -> torch.Tensor:
    return sample(foundation, LABELS, PLACES, config, stream=7, **told)


def real(count: int = 6, side: int = 48) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=random)
    return ImageSet(images, torch.arange(count) % 3)


def levels(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one.float() - other.float()).abs().max())


def tuned(foundation: Foundation, **keys: Any) -> dict[str, torch.Tensor]:
    """Return an adapter as the processor tunes it, made strong enough to be seen."""
    state = tune_lora(foundation, real(), LORA.model_copy(update=keys), seed=1).state
    return {name: value * 50 if ".lora_B." in name else value for name, value in state.items()}


def classifiers(device: torch.device) -> list[SmallCnn]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [SmallCnn(3, 1, 4).to(device).requires_grad_(False) for _ in range(2)]


# A family's own way of telling a denoiser what to draw; the others share theirs with one of these.
@pytest.mark.parametrize(
    "name",
    ["sdxl", "sdxl-turbo", "lcm", "sd3", "sd3-shifted-by-size", "pixart", "sana-dpm", "flux-dev"],
)
def test_every_family_draws_the_processors_images(
    name: str, pipelines: Callable[[str], Path]
) -> None:
    config = settings(pipelines(name), image_size=32, steps=2)
    plain = Foundation.load(config, CONCEPTS)
    starts = torch.randn(
        (len(LABELS), *plain.latent_shape), generator=torch.Generator().manual_seed(3)
    )
    expected = draw(plain, config), draw(plain, config, starts=starts)
    with pretended_card():
        foundation = Foundation.load(config, CONCEPTS, CARD)
        found = draw(foundation, config), draw(foundation, config, starts=starts)
        state = tune_lora(foundation, real(), LORA, seed=1).state
        sound = strangeness(foundation, config, state, {}, Known.real(foundation, real(), 4))
        assert sound < LIMITS["lora"]
    assert all(map(torch.equal, found, expected))


def all_that_draws(
    foundation: Foundation, config: GeneratorConfig, state: Tensors, pool: Path
) -> list[torch.Tensor]:
    """Return what comes of every way to draw, and of the pictures on the way."""
    starts = encode_latents(foundation, real().pixels[: len(LABELS)])
    gap = log_gap(*classifiers(foundation.device))
    guidance = DiscrepancyGuidance(foundation.noise_process(), gap, (1, 16, 16), 30.0)
    made = [starts.cpu(), draw(foundation, config, starts=starts)]
    made.append(draw(foundation, config, discrepancy_guidance=guidance))
    with foundation.adapters.using(state, "a test"):
        made.append(draw(foundation, config))
        made.append(draw(foundation, config.model_copy(update={"guide": "frozen"})))
    drawn = sample_pool(foundation, config, (1, 16, 16), per_class=2, stream=3, path=pool)
    return [*made, drawn.latents, drawn.images.images]


def test_every_way_to_draw_is_the_processors(second_pipeline: Path, tmp_path: Path) -> None:
    config = settings(second_pipeline)
    plain = Foundation.load(config, CONCEPTS)
    state = tuned(plain, image_tokens=2)
    expected = all_that_draws(plain, config, state, tmp_path / "plain")
    with pretended_card():
        foundation = Foundation.load(config, CONCEPTS, CARD)
        found = all_that_draws(foundation, config, state, tmp_path / "card")
    assert all(map(torch.equal, found, expected))
    assert not torch.equal(expected[3], expected[4]) and not torch.equal(expected[1], expected[2])


@pytest.mark.parametrize("held", ["held", "autocast"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_is_tuned_in_every_precision(
    second_pipeline: Path, precision: Precision, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if held == "held":  # as large checkpoints are, in half of float32
        monkeypatch.setattr(held_weights, "SMALL", 1)
    config = settings(second_pipeline, precision)
    expected = draw(Foundation.load(settings(second_pipeline), CONCEPTS), config)
    with pretended_card(bf16=precision != "fp16"):
        foundation = Foundation.load(config, CONCEPTS, CARD)
        kinds = {each.dtype for each in foundation.denoiser.parameters()}
        assert kinds == {DTYPES[precision] if held == "held" else torch.float32}
        before = {name: each.cpu() for name, each in foundation.denoiser.state_dict().items()}
        assert levels(draw(foundation, config), expected) < (1 if precision == "fp32" else 40)
        latents = torch.randn((4, *foundation.latent_shape))
        pairs, rows = torch.tensor([[0, 2], [1, 3]]), torch.tensor([0, 0, 1, 1])
        dpo = DpoConfig(steps=3, batch_size=2, beta=100.0, lr=1e-3)
        states = (
            tune_lora(
                foundation, real(), LORA.model_copy(update={"image_tokens": 2}), seed=1
            ).state,
            tune_dpo(foundation, latents, rows, pairs, dpo, LORA, seed=1).state,
        )
        assert set(foundation.denoiser.state_dict()) == set(before)
        for name, each in foundation.denoiser.state_dict().items():
            assert each.is_cuda and torch.equal(each.cpu(), before[name])
        with foundation.adapters.using(states[0], "a test"):
            assert draw(foundation, config).shape == expected.shape
    for state in states:
        assert {type(each) for each in state.values()} == {torch.Tensor}
        assert all(each.isfinite().all() for each in state.values())


def test_adapters_are_merged_as_on_a_processor(card: torch.device) -> None:
    assert_merged_alike(card)


@pytest.mark.parametrize("mode", ["in turns", "layer by layer"])
def test_what_waits_elsewhere_draws_the_same(
    second_pipeline: Path,
    mode: str,
    tmp_path: Path,
    save_ip_adapter: Callable[..., Path],
    card: torch.device,
) -> None:
    config = settings(second_pipeline)
    foundation = Foundation.load(config, CONCEPTS, card)
    state, ip = tuned(foundation), IpAdapter.of(str(save_ip_adapter(second_pipeline, tmp_path)))
    features = torch.randn(3, ip.features, device=card)
    prompts = ImagePrompts(features, torch.tensor([0, 1, 1]), 0.7)

    def everything() -> list[torch.Tensor]:
        made = [draw(foundation, config)]
        with foundation.adapters.using(state, "a test"):
            made.append(draw(foundation, config))
            with foundation.image_prompts.using(ip, prompts):
                made.append(draw(foundation, config))
        return made

    expected = everything()
    assert foundation.placement.take_turns()
    if mode == "layer by layer":
        assert foundation.placement.stream_layers()
    foundation.predict(
        torch.zeros(1, *foundation.latent_shape, device=card),
        torch.tensor(5, device=card),
        torch.zeros(1, device=card).long(),
    )
    assert {each.device.type for each in foundation.vae.parameters()} == {"cpu"}
    foundation.decode(torch.zeros(1, *foundation.latent_shape, device=card))
    assert {each.device.type for each in foundation.denoiser.parameters()} == {"cpu"}
    assert all(map(torch.equal, everything(), expected))
    again = tuned(foundation)
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    assert all(map(torch.equal, everything(), expected))
