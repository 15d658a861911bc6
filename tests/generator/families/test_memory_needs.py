"""Memory counted by shapes is what the profiler sees the same work take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch._subclasses.fake_tensor import FakeTensor
from torch.profiler import ProfilerActivity, profile

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator import prompts
from regl_app.generator.adaptation.layers import lora_layers, wrapped_layers
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import drawing_needs, preference_needs, tuning_needs
from regl_app.generator.placement import Placement
from regl_app.generator.without_weights import foundation_of_configs

NAMES = ("sdxl", "sd3", "sana", "flux-dev")
LORA = LoraConfig(layers="attention", rank=4)
MANY = 16


@pytest.mark.parametrize("name", NAMES)
def test_it_counts_what_is_taken(name: str, pipelines: Callable[[str], Path]) -> None:
    config = GeneratorConfig(path=str(pipelines(name)), guidance=1.0, image_size=64)
    foundation = Foundation.load(config.model_copy(update={"precision": "fp32"}), ("a cat", "a"))
    before = {key: value.clone() for key, value in foundation.denoiser.state_dict().items()}
    drawing = drawing_needs(foundation, config, LORA)
    tuning, preferences = tuning_needs(foundation, LORA), preference_needs(foundation, LORA)
    latents, rows = torch.zeros(MANY, *foundation.latent_shape), torch.zeros(MANY).long()

    def drawn() -> None:
        with torch.no_grad():
            foundation.predict(latents, torch.tensor(3), rows)

    def decoded() -> None:
        with torch.no_grad():
            foundation.decode(latents)

    assert drawing.images.of(MANY) == pytest.approx(taken(drawn), rel=0.1)
    assert drawing.decoding.of(MANY) == pytest.approx(taken(decoded), rel=0.1)
    with lora_layers(foundation, LORA, 0) as parameters:

        def tuned() -> None:
            for each in parameters:
                each.grad = None
            error = foundation.predict(latents, torch.zeros(MANY).long(), rows) - latents
            error.square().mean().backward()

        state = 3 * 4 * sum(each.numel() for each in parameters)
        assert tuning.step.of(MANY) == pytest.approx(taken(tuned) + state, rel=0.1)
    assert preferences.step.more > 1.5 * tuning.step.more
    assert tuning.least < tuning.step.one and preferences.least < preferences.step.one
    weights = sum(value.nbytes for value in before.values())
    assert drawing.denoiser == pytest.approx(weights, rel=0.02)  # some tensors are in no state
    after = foundation.denoiser.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_prompts_count_where_they_stay_on_the_device(
    pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GeneratorConfig(path=str(pipelines("sd3")), image_size=64, precision="fp32")
    foundation = Foundation.load(config, ("a cat", "a dog"))
    told = sum(each.nbytes for each in foundation.text.tensors.values())
    assert drawing_needs(foundation, config, LORA).text == told > 0
    bare = foundation_of_configs(pipelines("sd3"), config, torch.device("cuda", 0), prompts=9)
    of_ten = sum(each.nbytes for each in bare.text.tensors.values())
    assert len(bare.text.tensors["embeddings"]) == 10
    assert drawing_needs(bare, config, LORA).text == of_ten
    monkeypatch.setattr(prompts, "LARGE", 9)
    assert drawing_needs(bare, config, LORA).text == 0


def test_parts_that_take_turns_are_not_moved(
    pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*_: object) -> None:
        raise AssertionError("moved")

    config = GeneratorConfig(path=str(pipelines("sdxl")), image_size=64, precision="fp32")
    foundation = Foundation.load(config, ("a cat", "a dog"))
    foundation.placement.mode = "in turns"
    monkeypatch.setattr(Placement, "_to", moved)
    assert drawing_needs(foundation, config, LORA).images.one > 0
    assert tuning_needs(foundation, LORA).step.one > 0
    foundation.placement.mode = "layer by layer"
    with pytest.raises(GeneratorError, match="is not counted: cpu does not hold it"):
        drawing_needs(foundation, config, LORA)


def test_what_cannot_be_run_without_values_is_said_and_leaves_no_trace(
    pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GeneratorConfig(path=str(pipelines("sdxl")), image_size=64)
    foundation = Foundation.load(config, ("a cat", "a dog"))
    processors = foundation.denoiser.attn_processors
    predict = Foundation.predict

    def asks(self: Foundation, latents: torch.Tensor, *told: torch.Tensor) -> torch.Tensor:
        predicted = predict(self, latents, *told)
        return predicted if bool(predicted.sum() > 0) else -predicted

    monkeypatch.setattr(Foundation, "predict", asks)
    with pytest.raises(GeneratorError, match="UNet2DConditionModel needs cannot be counted"):
        tuning_needs(foundation, LORA)
    parts = (foundation.denoiser, foundation.vae)
    left = [each for part in parts for each in (*part.parameters(), *part.buffers())]
    assert not any(isinstance(each, FakeTensor) or each.requires_grad for each in left)
    assert not wrapped_layers(foundation.denoiser)
    assert foundation.denoiser.attn_processors == processors


def test_a_card_s_attention_is_fused_where_its_weights_wait(
    pipelines: Callable[[str], Path],
) -> None:
    config = GeneratorConfig(path=str(pipelines("sdxl")), image_size=64)
    foundation = Foundation.load(config, ("a cat", "a dog"))
    for device, kind in (("cuda", AttnProcessor2_0), ("cpu", AttnProcessor)):
        placed = replace(foundation, device=torch.device(device))
        with lora_layers(placed, LORA, 0):
            assert {type(each) for each in placed.denoiser.attn_processors.values()} == {kind}


def taken(work: Callable[[], None]) -> int:
    """Return the most bytes that ``work`` held at one time, by PyTorch's profiler."""
    work()  # what is set up once is there
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    found = profiler.profiler.kineto_results.events()
    now = most = 0
    for event in sorted(found, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most
