"""A checkpoint that lacks weights, or has them under other names: refused, not drawn at random."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Tensors
from regl_app.generator.foundation import Foundation
from regl_app.generator.pipeline_loading import load_pipeline
from regl_app.generator.quiet import quiet
from regl_app.generator.whole_parts import load_whole

CONCEPTS = ("a cat", "a dog")
TEXT, DIFFUSION = "model.safetensors", "diffusion_pytorch_model.safetensors"


def changed(source: Path, place: Path, part: str, change: Callable[[Tensors], Tensors]) -> Path:
    """Return a copy of a pipeline's folder, the weights of ``part`` changed."""
    folder = Path(shutil.copytree(source, place / "copy"))
    file = next((folder / part).glob("*.safetensors"))
    kept = {name: tensor.clone() for name, tensor in change(load_file(file)).items()}
    save_file(kept, file, metadata={"format": "pt"})
    return folder


def without(text: str) -> Callable[[Tensors], Tensors]:
    return lambda state: {name: value for name, value in state.items() if text not in name}


def named(start: str) -> Callable[[Tensors], Tensors]:
    return lambda state: {f"{start}{name}": value for name, value in state.items()}


def load(folder: Path) -> Foundation:
    return Foundation.load(GeneratorConfig(path=str(folder), precision="fp32"), CONCEPTS)


@pytest.mark.parametrize(
    ("part", "change", "problem"),
    [
        (
            "text_encoder",
            without(".q_proj.weight"),
            r"its 'text_encoder' lacks 1 of the weights of a CLIPTextModel, such as "
            r"'.*q_proj\.weight'\. What is lacked would be random \(fetch the checkpoint again",
        ),
        (
            "text_encoder",
            named("x."),
            r"'text_encoder' lacks .* such as .*; of no use to it is 'x\..*save_pretrained",
        ),
        ("unet", without("conv_in.bias"), r"'unet' lacks 1 .*UNet2DCond.*such as 'conv_in\.bias'"),
        ("vae", without("decoder.conv_out"), r"'vae' lacks 2 .*such as 'decoder\.conv_out"),
    ],
)
def test_a_part_that_lacks_weights_is_refused_by_their_names(
    part: str,
    change: Callable[[Tensors], Tensors],
    problem: str,
    second_pipeline: Path,
    tmp_path: Path,
) -> None:
    folder = changed(second_pipeline, tmp_path, part, change)
    with pytest.raises(GeneratorError, match=problem):
        load(folder)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_weights_of_another_shape_are_refused(
    part: str, second_pipeline: Path, tmp_path: Path
) -> None:
    def wider(state: Tensors) -> Tensors:
        name = next(name for name, value in state.items() if value.ndim == 1)
        return {**state, name: torch.zeros(len(state[name]) + 1)}

    folder = changed(second_pipeline, tmp_path, part, wider)
    with pytest.raises(GeneratorError, match="cannot be loaded"):
        load(folder)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_so_they_are_where_they_are_loaded_in_half(
    part: str, second_pipeline: Path, tmp_path: Path
) -> None:
    types = {"unet": torch.bfloat16, "vae": torch.float32, "default": torch.bfloat16}
    with pytest.raises(GeneratorError, match=f"'{part}' lacks .*conv_in"), quiet():
        load_pipeline(changed(second_pipeline, tmp_path, part, without("conv_in.bias")), types)


@pytest.mark.parametrize("start", ["", "text_model."])
def test_names_and_buffers_of_other_versions_make_no_difference(
    start: str, second_pipeline: Path, tmp_path: Path
) -> None:
    def older(state: Tensors) -> Tensors:
        plain = {name.removeprefix("text_model."): value for name, value in state.items()}
        return named(start)(plain) | {f"{start}embeddings.position_ids": torch.arange(32)[None]}

    ours, theirs = load(changed(second_pipeline, tmp_path, "text_encoder", older)), second_pipeline
    expected = load(theirs).text.tensors["embeddings"]
    assert torch.equal(ours.text.tensors["embeddings"], expected)


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    shape = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=40, **shape))


def _gemma() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=40, pad_token_id=0, **shape, **heads))


@pytest.mark.parametrize(
    ("make", "tied"),
    [
        (_t5, ("shared.weight", "encoder.embed_tokens.weight")),
        (_t5, ("encoder.embed_tokens.weight", "shared.weight")),
        (_gemma, ("model.embed_tokens.weight", "lm_head.weight")),
    ],
)
def test_of_weights_that_are_tied_one_is_enough(
    make: Callable[[], Any], tied: tuple[str, str], tmp_path: Path
) -> None:
    model = make()
    parts = {"text_encoder": type(model)}
    model.save_pretrained(tmp_path / "text_encoder")
    file = tmp_path / "text_encoder" / TEXT
    state = load_file(file)
    table = next(value for name, value in state.items() if name in tied)
    rest = {name: value for name, value in state.items() if name not in tied}
    save_file({**rest, tied[0]: table}, file, metadata={"format": "pt"})
    found = load_whole(parts, tmp_path, {})["text_encoder"]
    assert all(torch.equal(found.state_dict()[n], v) for n, v in model.state_dict().items())
    save_file(rest, file, metadata={"format": "pt"})
    with pytest.raises(GeneratorError, match="lacks 2 of the weights of a "):
        load_whole(parts, tmp_path, {})


def test_a_part_in_the_folder_beside_a_single_file_has_to_be_whole(
    second_pipeline: Path, tmp_path: Path
) -> None:
    """A file of denoiser and VAE alone, with a text encoder's weights laid beside it."""
    from tests.generator.test_single_file import in_one_file

    file = tmp_path / "tiny.safetensors"
    whole = in_one_file(second_pipeline)
    save_file({n: t for n, t in whole.items() if not n.startswith("cond_stage_model")}, file)
    folder = file.with_suffix("")
    shutil.copytree(second_pipeline, folder, ignore=shutil.ignore_patterns(DIFFUSION))
    ours, expected = load(file), load(second_pipeline)
    for name, value in expected.text.tensors.items():
        assert torch.equal(ours.text.tensors[name], value)
    weights = folder / "text_encoder" / TEXT
    save_file(without(".q_proj.weight")(load_file(weights)), weights, metadata={"format": "pt"})
    with pytest.raises(GeneratorError, match=r"'text_encoder' lacks 1 .*would be random"):
        load(file)
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(GeneratorError, match=r"has no safetensors weights but .*a pickle"):
        load(file)


def test_an_own_image_encoder_has_to_be_whole(second_pipeline: Path, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    shape = {"hidden_size": 16, "intermediate_size": 16, "projection_dim": 8, "image_size": 32}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 16}
    folder = Path(shutil.copytree(second_pipeline, tmp_path / "with-encoder"))
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, **layers))
    model.save_pretrained(folder / "image_encoder")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    index = folder / "model_index.json"
    told = json.loads(index.read_text(encoding="utf-8")) | {
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    index.write_text(json.dumps(told), encoding="utf-8")
    assert load(folder).image_encoder is not None
    lacking = changed(folder, tmp_path, "image_encoder", without("visual_projection"))
    with pytest.raises(GeneratorError, match="'image_encoder' lacks 1 of the weights of a CLIPVis"):
        load(lacking)
