"""What is built of configuration files alone has the shapes of what is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator import held_weights
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import drawing_needs
from regl_app.generator.without_weights import foundation_of_configs

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["sdxl", "lcm", "sd3", "pixart", "sana", "flux-dev"])
def test_the_shapes_are_those_that_are_loaded(name: str, pipelines: Callable[[str], Path]) -> None:
    folder = pipelines(name)
    config = GeneratorConfig(path=str(folder), precision="fp32", image_size=64)
    loaded = Foundation.load(config, ("a cat", "a dog"))
    bare = foundation_of_configs(folder, config, CPU)
    assert (bare.image_size, bare.factor) == (loaded.image_size, loaded.factor)
    assert bare.latent_shape == loaded.latent_shape
    for part in ("denoiser", "vae"):
        ours, theirs = getattr(bare, part).state_dict(), getattr(loaded, part).state_dict()
        assert {name: each.shape for name, each in ours.items()} == {
            name: each.shape for name, each in theirs.items()
        }
        assert {each.device.type for each in ours.values()} == {"meta"}
    told = bare.text.tensors
    assert told.keys() == loaded.text.tensors.keys()
    for key, value in loaded.text.tensors.items():
        # How many places a prompt has is the tokenizers' matter.
        first = {"mask": 2, "embeddings": 2}.get(key, 1)
        assert told[key].ndim == value.ndim and told[key].shape[first:] == value.shape[first:], key


@pytest.mark.parametrize(("name", "tokens"), [("flux-dev", 512), ("flux-schnell", 256)])
def test_prompts_are_as_long_as_the_denoiser_reads(
    name: str, tokens: int, pipelines: Callable[[str], Path]
) -> None:
    folder = pipelines(name)
    config = GeneratorConfig(path=str(folder), precision="fp32", image_size=64)
    told = foundation_of_configs(folder, config, CPU).text.tensors
    assert tokens in told["embeddings"].shape


@pytest.mark.parametrize(
    ("kind", "places"), [("PixArtAlphaPipeline", 120), ("PixArtSigmaPipeline", 300)]
)
def test_pixart_alpha_reads_fewer_tokens_than_sigma(
    kind: str, places: int, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pipelines("pixart"), tmp_path / "copy"))
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": kind}))
    config = GeneratorConfig(path=str(folder), precision="fp32", image_size=64)
    told = foundation_of_configs(folder, config, CPU).text.tensors
    assert places in told["embeddings"].shape and places in told["mask"].shape


def test_on_a_card_weights_count_as_they_are_held(
    pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pipelines("sdxl")
    config, lora = GeneratorConfig(path=str(folder), image_size=64), LoraConfig(rank=2)
    monkeypatch.setattr(held_weights, "SMALL", 1)

    def weights(precision: str) -> int:
        own = config.model_copy(update={"precision": precision})
        needs = drawing_needs(foundation_of_configs(folder, own, CUDA), own, lora)
        assert needs.images.one > 0
        return needs.denoiser

    assert weights("fp32") == pytest.approx(2 * weights("bf16"), rel=0.02)


def test_configurations_that_build_nothing_are_our_error(
    pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pipelines("sdxl")
    config = GeneratorConfig(path=str(folder), precision="fp32", image_size=64)
    monkeypatch.setattr(
        "regl_app.generator.without_weights.part_config", lambda *_: {"norm_num_groups": 7}
    )
    with pytest.raises(GeneratorError, match="nothing can be built of the configurations"):
        foundation_of_configs(folder, config, CPU)
