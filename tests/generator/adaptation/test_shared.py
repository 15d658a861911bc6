"""One adapter for all: A stays, averaging B loses nothing, its shape is known by files alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adaptation.shared import (
    SharedAdapter,
    SharedStart,
    average_up,
    up_of,
    up_template,
    whole_adapter,
)
from regl_app.generator.adapters import lora_update, save_adapter
from regl_app.generator.foundation import Foundation

CONFIG = LoraConfig(layers="all", rank=2, alpha=6.0, steps=2, batch_size=4, lr=5e-3)


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = GeneratorConfig(path=str(second_pipeline), steps=3)
    return Foundation.load(config, ("the digit zero", "the digit one"))


@pytest.fixture(scope="module")
def real() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8, generator=random)
    return ImageSet(images, torch.arange(8) % 2)


@pytest.mark.parametrize("layers", ["convolution", "attention", "all"])
def test_b_is_known_by_the_files_alone(
    foundation: Foundation, second_pipeline: Path, layers: str
) -> None:
    config = CONFIG.model_copy(update={"layers": layers})
    template = up_template(second_pipeline, config)
    state = up_of(whole_adapter(foundation, config, SharedStart(1, {})))
    assert {name: (value.shape, value.dtype) for name, value in template.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    assert not any(value.any() for value in state.values())


def test_a_is_the_same_for_all_and_only_b_is_tuned(foundation: Foundation, real: ImageSet) -> None:
    start = SharedStart(7, {})
    one = tune_lora(foundation, real, CONFIG, seed=1, start=start).state
    other = tune_lora(foundation, real.subset([0, 1, 2]), CONFIG, seed=2, start=start).state
    fresh = whole_adapter(foundation, CONFIG, start)
    for name, value in fresh.items():
        if ".lora_A." in name:
            assert torch.equal(one[name], value) and torch.equal(other[name], value)
        else:
            assert not torch.equal(one[name], other[name])
    again = whole_adapter(foundation, CONFIG, SharedStart(8, {}))
    assert not any(torch.equal(again[name], fresh[name]) for name in fresh if ".lora_A." in name)
    assert not any(each.requires_grad for each in foundation.denoiser.parameters())


def test_tuning_goes_on_from_what_was_averaged(foundation: Foundation, real: ImageSet) -> None:
    up = {
        name: torch.full_like(value, 0.75)
        for name, value in up_of(whole_adapter(foundation, CONFIG, SharedStart(1, {}))).items()
    }
    still = CONFIG.model_copy(update={"lr": 1e-12})
    tuned = tune_lora(foundation, real, still, seed=1, start=SharedStart(1, up)).state
    for name, value in up.items():
        torch.testing.assert_close(tuned[name], value, rtol=0, atol=1e-6)
    whole = whole_adapter(foundation, CONFIG, SharedStart(1, up))
    assert all(torch.equal(whole[name], value) for name, value in up.items())


def test_its_merged_update_is_the_mean_of_the_clients(
    foundation: Foundation, real: ImageSet, tmp_path: Path
) -> None:
    start, counts = SharedStart(3, {}), (8, 3)
    states = [
        tune_lora(foundation, real.subset(range(count)), CONFIG, seed=count, start=start).state
        for count in counts
    ]
    up = average_up((count, up_of(state)) for count, state in zip(counts, states, strict=True))
    whole = whole_adapter(foundation, CONFIG, SharedStart(3, up))
    for name in up:
        down = name.replace(".lora_B.", ".lora_A.")
        updates = [lora_update(state[down], state[name]).double() for state in states]
        mean = sum(count * each for count, each in zip(counts, updates, strict=True)) / sum(counts)
        torch.testing.assert_close(
            lora_update(whole[down], whole[name]).double(), mean, rtol=1e-4, atol=1e-7
        )
    save_adapter(tmp_path / "adapter", whole)
    with foundation.adapter(tmp_path / "adapter"):
        assert foundation.adapters.filled


def test_golden_average() -> None:
    ones = {"unet.a.lora_B.weight": torch.ones(2, 1)}
    parts = [(1, ones), (3, {"unet.a.lora_B.weight": torch.full((2, 1), 5.0)})]
    assert torch.equal(average_up(parts)["unet.a.lora_B.weight"], torch.full((2, 1), 4.0))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.floats(-2, 2, width=32))
def test_clients_that_agree_change_nothing(counts: list[int], value: float) -> None:
    up = {"unet.a.lora_B.weight": torch.full((3, 2), value)}
    averaged = average_up((count, up) for count in counts)
    assert torch.equal(averaged["unet.a.lora_B.weight"], up["unet.a.lora_B.weight"])


def test_its_digest_is_of_its_content() -> None:
    up = {"unet.a.lora_B.weight": torch.ones(2, 1), "unet.b.lora_B.weight": torch.zeros(2, 1)}
    swapped = dict(reversed(up.items()))
    assert SharedAdapter.of(up).digest == SharedAdapter.of(swapped).digest
    other = {**up, "unet.b.lora_B.weight": torch.ones(2, 1)}
    assert SharedAdapter.of(up).digest != SharedAdapter.of(other).digest


def test_a_generator_that_cannot_tell_is_refused(second_pipeline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    shutil.copytree(second_pipeline, folder)
    for file in (folder / "unet").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(GeneratorError, match="cannot be read"):
        up_template(folder, CONFIG)
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(GeneratorError, match="has no safetensors"):
        up_template(folder, CONFIG)
    (folder / "unet" / "config.json").write_text(json.dumps({"_class_name": "Another"}))
    with pytest.raises(GeneratorError, match="a denoiser of none of UNet2DConditionModel"):
        up_template(folder, CONFIG)
