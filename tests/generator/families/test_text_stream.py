"""Where text has a stream of its own in the denoiser, it is tuned as by diffusers' scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adaptation.shared import up_template
from regl_app.generator.foundation import Foundation
from regl_app.supplement.cache_keys import CacheKeys

IMAGE = {"attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"}
TEXT = {"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"}
FORWARD = {"ff.net.0.proj", "ff.net.2"}
TEXT_FORWARD = {"ff_context.net.0.proj", "ff_context.net.2"}


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_attention_has_it_and_all_has_everything(
    name: str, pipelines: Callable[[str], Path]
) -> None:
    config = GeneratorConfig(path=str(pipelines(name)), precision="fp32", image_size=32)
    foundation = Foundation.load(config, ("a cat", "a dog", "a horse"))
    block = "transformer_blocks.0."

    def chosen(choice: str) -> set[str]:
        layers = foundation.family.adapted_layers(foundation.denoiser, choice)
        return {layer.removeprefix(block) for layer in layers if layer.startswith(block)}

    assert chosen("attention") == IMAGE | TEXT
    assert chosen("convolution") == FORWARD  # the look, as ever
    assert chosen("all") == IMAGE | TEXT | FORWARD | TEXT_FORWARD
    real = ImageSet(torch.full((3, 3, 32, 32), 40, dtype=torch.uint8), torch.arange(3))
    lora = LoraConfig(layers="all", rank=2, alpha=2.0, steps=3, batch_size=3, lr=1e-2)
    state = tune_lora(foundation, real, lora, seed=0).state
    for layer in TEXT | TEXT_FORWARD:
        assert state[f"transformer.{block}{layer}.lora_B.weight"].any(), layer
    ups = {key for key in state if ".lora_B." in key}
    assert up_template(pipelines(name), lora).keys() == ups


@pytest.mark.parametrize(
    ("name", "layers", "marked"),
    [("sd3", "attention", True), ("flux-dev", "all", True), ("sd3", "convolution", False)]
    + [(name, "all", False) for name in ("sdxl", "pixart", "sana")],
)
def test_adapters_from_before_are_not_taken_for_the_same(
    name: str, layers: str, marked: bool, pipelines: Callable[[str], Path]
) -> None:
    flat = {"generator.path": str(pipelines(name)), "generator.guidance": 1.0}
    config = RunConfig.from_flat({"method": "regl", **flat, "lora.layers": layers})
    made = CacheKeys(config, ("a cat", "a dog"), (1, 16, 16), torch.device("cpu"))
    real = ImageSet(torch.zeros(1, 1, 16, 16, dtype=torch.uint8), torch.zeros(1).long())
    found = (made.lora(real, 0), made.shared("0", 0), made.preference({}, "0", 0))
    assert ["text_stream" in key for key in found] == [marked] * 3
