"""Every family drawn from and tuned with its weights in bf16, as large checkpoints have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.data.images import ImageSet
from regl_app.generator import foundation as module
from regl_app.generator import placement
from regl_app.generator.adaptation import micro_batches
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample, sample_latents

NAMES = ("sdxl", "lcm", "sd3", "sd3-without-t5", "pixart", "sana", "flux-schnell", "flux-dev")
CLASSES = ("a cat", "a dog", "a horse")
LABELS, INDICES = [0, 1, 2, 1], [0, 0, 0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_it_draws_and_tunes_with_weights_in_bf16(
    name: str, pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "held_precision", lambda _folder, precision: precision)
    config = GeneratorConfig(
        path=str(pipelines(name)),
        steps=1 if name == "lcm" else 3,
        guidance=1.5,
        guidance_stop=1.0,
        image_size=32,
        precision="bf16",
    )
    foundation = Foundation.load(config, CLASSES)
    assert {p.dtype for p in foundation.denoiser.parameters()} == {torch.bfloat16}
    exact = Foundation.load(config.model_copy(update={"precision": "fp32"}), CLASSES)
    drawn, expected = (
        sample(each, LABELS, INDICES, config, stream=7) for each in (foundation, exact)
    )
    assert (drawn.int() - expected.int()).abs().float().mean() < 2.0
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    real = ImageSet(images.byte(), torch.tensor([0, 0, 1, 1]))
    lora = LoraConfig(layers="all", rank=2, steps=3, batch_size=2, lr=1e-3)
    losses = [tune_lora(each, real, lora, seed=0).loss for each in (foundation, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    latents = sample_latents(foundation, LABELS, INDICES, config, stream=7)
    pairs = torch.tensor([[0, 1], [2, 3]])
    dpo = DpoConfig(steps=2, batch_size=2, lr=1e-3)
    tuned = tune_dpo(foundation, latents, torch.tensor(LABELS), pairs, dpo, lora, seed=0)
    assert tuned.margins[0] == 0.0
    assert all(value.dtype == torch.float32 for value in tuned.state.values())


@pytest.mark.parametrize("name", NAMES)
def test_layer_by_layer_it_draws_the_same(
    name: str, pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GeneratorConfig(
        path=str(pipelines(name)),
        steps=1 if name == "lcm" else 2,
        guidance=1.5,
        image_size=32,
        precision="fp32",
    )
    foundation = Foundation.load(config, CLASSES)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    real = ImageSet(images.byte(), torch.tensor([0, 0, 1, 1]))
    lora = LoraConfig(layers="all", rank=2, steps=1, batch_size=2, lr=1e-2)
    state = tune_lora(foundation, real, lora, seed=0).state

    def both() -> list[torch.Tensor]:
        frozen = sample(foundation, LABELS, INDICES, config, stream=7)
        with foundation.adapters.using(state, "a test"):
            return [frozen, sample(foundation, LABELS, INDICES, config, stream=7)]

    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    expected = both()
    monkeypatch.setattr(placement, "can_wait", lambda _: True)
    try:
        assert foundation.placement.take_turns() and foundation.placement.stream_layers()
        found = both()
    finally:
        placement._learnt.clear()
    assert not torch.equal(*expected)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    after = foundation.denoiser.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_activations_computed_twice_give_the_same_adapter(
    name: str, pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GeneratorConfig(path=str(pipelines(name)), image_size=32, precision="fp32")
    foundation = Foundation.load(config, CLASSES)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    real = ImageSet(images.byte(), torch.tensor([0, 0, 1, 1]))
    lora = LoraConfig(layers="all", rank=2, steps=2, batch_size=2, lr=1e-3)
    expected = tune_lora(foundation, real, lora, seed=0)
    batches = micro_batches.MicroBatches(foundation, "tuning", "image", "")
    monkeypatch.setitem(
        micro_batches._learnt, batches._place, micro_batches._Learnt(2, checkpointing=True)
    )
    twice: list[int] = []
    plain = torch.utils.checkpoint.checkpoint

    def spy(*arguments: Any, **keywords: Any) -> Any:
        twice.append(1)
        return plain(*arguments, **keywords)

    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", spy)
    found = tune_lora(foundation, real, lora, seed=0)
    assert twice
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    for key, value in expected.state.items():
        assert (found.state[key] - value).abs().mean() < 0.02 * lora.lr
    assert not foundation.denoiser.is_gradient_checkpointing
