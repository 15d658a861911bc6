"""Adapters that diffusers, PEFT and kohya write: the same images as theirs, or refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.generator.adapters import WEIGHTS, load_adapter
from regl_app.generator.foreign_adapters import HEADER, plain_lora
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample

LAYERS = ["to_q", "to_v", "to_out.0", "conv1"]
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
PAIR = {f"{LAYER}.lora_A.weight": torch.ones(4, 8), f"{LAYER}.lora_B.weight": torch.ones(8, 4)}


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(second_pipeline), steps=3, guidance=2.0, guidance_stop=1.0, precision="fp32"
    )


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, ("a cat", "a dog", "a horse"))


def new_pipeline(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def trained(pipeline: Any, **keys: Any) -> dict[str, torch.Tensor]:
    """Put a LoRA on the pipeline's UNet as diffusers' training scripts do; return its weights."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline.unet.add_adapter(LoraConfig(**{"target_modules": LAYERS, **keys}), "default")
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in pipeline.unet.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.15)
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(pipeline.unet)
    return {name: value.detach().clone() for name, value in state.items()}


def written(second_pipeline: Path, folder: Path, **keys: Any) -> None:
    """Write what diffusers' train_text_to_image_lora would."""
    from diffusers import StableDiffusionPipeline

    pipeline = new_pipeline(second_pipeline)
    layers = trained(pipeline, **keys)
    metadata = pipeline.unet.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata
    )


def theirs(second_pipeline: Path, foundation: Foundation, adapter: Path) -> torch.Tensor:
    """Return the images of the pipeline's own load_lora_weights, in [0, 255]."""
    pipeline = new_pipeline(second_pipeline)
    pipeline.load_lora_weights(adapter)
    noise = [
        torch.randn(foundation.latent_shape, generator=torch_generator(3, c, 0)) for c in range(3)
    ]
    images: torch.Tensor = pipeline(
        list(foundation.prompts),
        num_inference_steps=3,
        guidance_scale=2.0,
        latents=torch.stack(noise),
        output_type="pt",
    ).images
    return images * 255


def ours(foundation: Foundation, config: GeneratorConfig, adapter: Path | None) -> torch.Tensor:
    with foundation.adapter(adapter):
        return sample(foundation, [0, 1, 2], [0, 0, 0], config, stream=3)


@pytest.mark.parametrize(
    "keys",
    [
        {"r": 4, "lora_alpha": 16},
        {"r": 4, "lora_alpha": 1},
        {"r": 4, "lora_alpha": 6, "use_rslora": True},
        {"r": 4, "lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 32, "conv1": 1}},
        {"r": 4, "lora_alpha": 8, "rank_pattern": {"to_v": 2}, "alpha_pattern": {"to_v": 8}},
    ],
    ids=["alpha", "small alpha", "rslora", "alpha pattern", "rank pattern"],
)
def test_the_scale_of_diffusers_files_is_applied(
    foundation: Foundation,
    config: GeneratorConfig,
    second_pipeline: Path,
    tmp_path: Path,
    keys: dict[str, Any],
) -> None:
    written(second_pipeline, tmp_path, **keys)
    found = ours(foundation, config, tmp_path)
    assert (found - theirs(second_pipeline, foundation, tmp_path)).abs().max() <= 1  # rounding
    # As before: the tensors alone, whatever the header says.
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / "bare.safetensors")
    bare = ours(foundation, config, tmp_path / "bare.safetensors")
    assert (found.float() - bare.float()).abs().mean() > 3
    assert torch.equal(ours(foundation, config, tmp_path / WEIGHTS), found)  # the file by its name


OLD: Mapping[str, Callable[[str], str]] = {
    "lora.down": lambda name: name.replace("lora_A", "lora.down").replace("lora_B", "lora.up"),
    "processor": lambda name: (
        name.replace(".to_out.0.lora_", ".to_out.lora_")
        .replace(".to_q.lora_", ".processor.to_q_lora.")
        .replace(".to_v.lora_", ".processor.to_v_lora.")
        .replace(".to_out.lora_", ".processor.to_out_lora.")
        .replace(".conv1.lora_", ".conv1.lora.")
        .replace(".A.", ".down.")
        .replace(".B.", ".up.")
    ),
}


@pytest.mark.parametrize("kind", OLD)
def test_old_names_of_diffusers_are_read(
    foundation: Foundation,
    config: GeneratorConfig,
    second_pipeline: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    layers = trained(new_pipeline(second_pipeline), r=4, lora_alpha=4)
    old = {OLD[kind](f"unet.{name}"): value for name, value in layers.items()}
    assert not any("lora_A" in name or "lora_B" in name for name in old)
    save_file(old, tmp_path / WEIGHTS, metadata={"format": "pt"})
    found = ours(foundation, config, tmp_path)
    assert (found - theirs(second_pipeline, foundation, tmp_path)).abs().max() <= 1
    assert (found.float() - ours(foundation, config, None).float()).abs().mean() > 3


def test_kohya_is_refused_and_its_remedy_works(
    foundation: Foundation, config: GeneratorConfig, second_pipeline: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline
    from peft.utils import get_peft_model_state_dict

    layers = trained(new_pipeline(second_pipeline), r=4, lora_alpha=4)
    kohya: dict[str, torch.Tensor] = {}
    for name, value in layers.items():
        layer, _, end = name.partition(".lora_")
        layer = f"lora_unet_{layer.replace('.', '_')}"
        kohya[f"{layer}.lora_{'down' if end.startswith('A') else 'up'}.weight"] = value
        kohya[f"{layer}.alpha"] = torch.tensor(2.0)
    save_file(kohya, tmp_path / WEIGHTS)
    with pytest.raises(GeneratorError, match=r"has kohya's names \('lora_unet_.*load_lora_weights"):
        load_adapter(tmp_path)
    pipeline = new_pipeline(second_pipeline)
    pipeline.load_lora_weights(tmp_path)
    (name,) = pipeline.unet.peft_config
    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "converted",
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet, adapter_name=name),
        unet_lora_adapter_metadata=pipeline.unet.peft_config[name].to_dict(),
    )
    found = ours(foundation, config, tmp_path / "converted")
    assert (found - theirs(second_pipeline, foundation, tmp_path)).abs().max() <= 1


def test_a_pointer_in_an_adapter_s_place_is_told_as_one(tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    file.write_text("version https://git-lfs.example/spec/v1\n", encoding="utf-8")
    with pytest.raises(GeneratorError, match=r"style.safetensors' cannot be read: .*git lfs pull"):
        load_adapter(file)


_LIMITED = """
import resource, sys
from pathlib import Path
from regl_app.core.errors import GeneratorError
from regl_app.generator.adapters import load_adapter
size, (_, most) = int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_AS)
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + int(size * float(sys.argv[3])), most))
try:
    load_adapter(Path(sys.argv[1]))
except GeneratorError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0.5, 1.5], ids=["not once", "not twice"])
def test_one_that_may_not_be_mapped_is_told_with_the_limit(room: float, tmp_path: Path) -> None:
    """By safetensors, or by torch, which maps it once more and says so by a RuntimeError."""
    size = 4_000_000_000  # a hole, which takes no disk
    head = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    file = tmp_path / "large.safetensors"
    with file.open("wb") as content:
        content.write(len(head).to_bytes(8, "little") + head)
        content.truncate(8 + len(head) + size)
    call = [sys.executable, "-c", _LIMITED, str(file), str(size), str(room)]
    said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert "large.safetensors' cannot be read: the system does not let this process map" in said
    assert "ulimit -v unlimited" in said


@pytest.mark.parametrize("keys", [{"use_dora": True}, {"lora_bias": True}], ids=["dora", "bias"])
def test_what_is_more_than_two_matrices_is_refused_and_its_remedy_works(
    foundation: Foundation,
    config: GeneratorConfig,
    second_pipeline: Path,
    tmp_path: Path,
    keys: dict[str, Any],
) -> None:
    layers = ["to_out.0", "conv1"]  # those with a bias of their own
    written(second_pipeline, tmp_path / "a", r=4, lora_alpha=4, target_modules=layers, **keys)
    told = {"use_dora": "is a DoRA", "lora_bias": "has biases"}[next(iter(keys))]
    with pytest.raises(GeneratorError, match=rf"{told} \('unet\..*fuse_lora.*generator\.path"):
        load_adapter(tmp_path / "a")
    pipeline = new_pipeline(second_pipeline)
    pipeline.load_lora_weights(tmp_path / "a")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(tmp_path / "fused")
    fused = config.model_copy(update={"path": str(tmp_path / "fused")})
    other = Foundation.load(fused, ("a cat", "a dog", "a horse"))
    expected = theirs(second_pipeline, foundation, tmp_path / "a")
    assert (ours(other, fused, None) - expected).abs().max() <= 2


def test_alpha_tensors_are_applied() -> None:
    golden = plain_lora({**PAIR, f"{LAYER}.alpha": torch.tensor(2.0)}, {}, "x")
    assert golden.keys() == PAIR.keys()
    assert torch.equal(golden[f"{LAYER}.lora_B.weight"], torch.full((8, 4), 0.5))
    half = {name: value.half() for name, value in PAIR.items()}
    scaled = plain_lora({**half, f"{LAYER}.alpha": torch.tensor(1e-4)}, {}, "x")
    assert scaled[f"{LAYER}.lora_B.weight"].tolist()[0][0] == pytest.approx(2.5e-5)  # not in fp16
    with pytest.raises(GeneratorError, match=r"an alpha but no lora_B for 'unet.conv_in'"):
        plain_lora({**PAIR, "unet.conv_in.alpha": torch.tensor(2.0)}, {}, "x")


def test_our_own_files_keep_their_meaning() -> None:
    for header in ({}, {"format": "pt"}):
        same = plain_lora(PAIR, header, "x")
        assert all(same[name] is value for name, value in PAIR.items())


def header(**config: Any) -> dict[str, str]:
    whole = {"r": 4, "lora_alpha": 4, **config}
    return {HEADER: json.dumps({f"unet.{name}": value for name, value in whole.items()})}


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"text_encoder.text_model.layers.0.q_proj.lora_A.weight": 1}, "also adapts a text enc"),
        ({"lora_te_text_model_encoder.lora_down.weight": 1}, "has kohya's names"),
        ({f"{LAYER}.dora_scale": 1}, "is a DoRA"),
        ({f"{LAYER}.lokr_w1": 1}, "is none of LoRA"),
        ({f"{LAYER}.hada_w1_a": 1}, "is none of LoRA"),
        ({f"{LAYER}.diff": 1}, "to_q.diff', which is neither lora_A nor lora_B"),
        ({"unet.conv_in.weight": 1}, "has 'unet.conv_in.weight', which is neither"),
    ],
)
def test_foreign_tensors_are_refused_by_name(
    extra: dict[str, int], told: str, tmp_path: Path
) -> None:
    more = {name: torch.ones(2, 2) * value for name, value in extra.items()}
    save_file({**PAIR, **more}, tmp_path / WEIGHTS)
    with pytest.raises(GeneratorError, match=told):
        load_adapter(tmp_path)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (header(use_dora=True), "use_dora=True"),
        (header(lora_bias=True), "lora_bias=True"),
        (header(bias="all"), "bias='all'"),
        (header(init_lora_weights="pissa"), "init_lora_weights='pissa'"),
        (header(modules_to_save=["conv_in"]), "modules_to_save"),
        (header(r=8), "must have rank 8 .* got 4"),
        (header(lora_alpha="4"), "lora_alpha must be a finite number, got '4'"),
        (header(lora_alpha=float("nan")), "lora_alpha must be a finite number, got nan"),
        (header(alpha_pattern={"(a+)+$": 1}), "has the regular expression"),
        (header(alpha_pattern=[1]), "alpha_pattern must be an object"),
        ({HEADER: "{"}, "is no JSON"),
        ({HEADER: "[" * 100_000}, "is no JSON"),
        ({HEADER: "[]"}, "must be an object"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(told: dict[str, str], message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        plain_lora(PAIR, told, "x")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
_KEYS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=st.dictionaries(st.sampled_from(_KEYS).map(lambda key: f"unet.{key}"), _JSON))
def test_any_header_is_understood_or_refused(config: dict[str, Any]) -> None:
    try:
        plain = plain_lora(PAIR, {HEADER: json.dumps(config)}, "x")
    except GeneratorError:
        return
    assert plain.keys() == PAIR.keys()
