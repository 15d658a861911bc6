"""What a checkpoint may look like on the disk: variants, shards, other channels, other kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator.adaptation.shared import up_template
from regl_app.generator.adapters import most_adapter_bytes
from regl_app.generator.checkpoint import generator_digest, resolve_generator
from regl_app.generator.foundation import Foundation
from regl_app.generator.weight_files import files_read, variant_of

CONCEPTS = ("a cat", "a dog")


@pytest.fixture(scope="module")
def pipeline(second_pipeline: Path) -> object:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(second_pipeline)


@pytest.fixture
def copy(second_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(second_pipeline, tmp_path / "copy"))


def load(folder: Path, **keys: object) -> Foundation:
    return Foundation.load(GeneratorConfig.model_validate({"path": str(folder), **keys}), CONCEPTS)


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def renamed_to(folder: Path, variant: str, parts: tuple[str, ...]) -> None:
    for part in parts:
        for file in (folder / part).glob("*.safetensors"):
            file.rename(file.with_suffix(f".{variant}.safetensors"))


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_weights_that_are_only_there_in_a_variant_are_read(copy: Path, variant: str) -> None:
    before = load(copy)
    renamed_to(copy, variant, ("unet", "vae", "text_encoder"))
    after = load(copy)
    ours, theirs = after.denoiser.state_dict(), before.denoiser.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lora = LoraConfig(rank=2)
    assert up_template(copy, lora).keys() and most_adapter_bytes(copy, 2) > 2**20


def test_full_precision_is_preferred_and_the_other_never_read(copy: Path) -> None:
    digest = generator_digest(copy)
    for part in ("unet", "vae", "text_encoder"):
        for file in (copy / part).glob("*.safetensors"):
            file.with_suffix(".fp16.safetensors").write_bytes(b"damaged")
    load(copy)
    assert generator_digest(copy) == digest
    assert most_adapter_bytes(copy, 2) > 2**20


def test_a_variant_fills_the_gap_of_one_part(copy: Path) -> None:
    renamed_to(copy, "fp16", ("text_encoder",))
    load(copy)


@pytest.mark.parametrize(
    ("names", "variant"),
    [
        ({"unet/model.fp16.safetensors", "vae/model.bf16.safetensors"}, None),  # none fills both
        (
            {"unet/model.fp16.safetensors", "unet/model.bf16.safetensors", "vae/model.safetensors"},
            "bf16",
        ),
        ({"unet/model.fp16-00001-of-00002.safetensors"}, "fp16"),
        ({"unet/model-00001-of-00002.fp16.safetensors"}, "fp16"),
        ({"unet/model-00001-of-00002.safetensors", "unet/model.fp16.safetensors"}, None),
        ({"unet/model.non_ema.safetensors"}, "non_ema"),
        ({"unet/model.fp16.bin", "unet/config.json"}, None),
    ],
)
def test_the_variant_is_found_by_the_names(names: set[str], variant: str | None) -> None:
    assert variant_of(names, ("unet", "vae")) == variant


def test_of_a_repository_only_what_is_read_is_wanted() -> None:
    unread = {
        "sd.safetensors",
        "README.md",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "safety_checker/model.safetensors",
        "onnx/model.safetensors",
    }
    read = {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00001.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }
    parts = ("unet", "vae", "tokenizer")
    assert set(files_read(unread | read, parts, variant_of(unread | read, parts))) == read


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_are_read(
    pipeline: object, second_pipeline: Path, tmp_path: Path, variant: str | None
) -> None:
    folder = tmp_path / "sharded"
    pipeline.save_pretrained(folder, max_shard_size="40KB", variant=variant)  # type: ignore[attr-defined]
    shards = sorted((folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    ours, theirs = load(folder).denoiser.state_dict(), load(second_pipeline).denoiser.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert most_adapter_bytes(folder, 2) == most_adapter_bytes(second_pipeline, 2)
    shards[-1].unlink()
    with pytest.raises(GeneratorError, match=rf"'unet' has {len(shards) - 1} of {len(shards)} sh"):
        resolve_generator(str(folder))


def test_a_part_that_is_a_pickle_is_refused_by_name(copy: Path) -> None:
    file = next((copy / "vae").glob("*.safetensors"))
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(GeneratorError, match=r"'vae' has no safetensors weights but 'vae/.*\.bin'"):
        resolve_generator(str(copy))


@pytest.mark.parametrize(
    ("channels", "use"), [(9, "is for inpainting and needs"), (8, "pix2pix"), (5, "depth"), (6, "")]
)
def test_a_unet_that_needs_more_than_text_is_refused(copy: Path, channels: int, use: str) -> None:
    edit(copy / "unet" / "config.json", lambda content: content.update(in_channels=channels))
    with pytest.raises(GeneratorError, match=rf"takes {channels} channels.* have 4: it .*{use}"):
        load(copy)


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionInstructPix2PixPipeline", "StableVideoDiffusionPipeline", "DDPMPipeline"],
)
def test_a_pipeline_of_another_kind_is_refused_by_name(copy: Path, name: str) -> None:
    edit(copy / "model_index.json", lambda content: content.update(_class_name=name))
    with pytest.raises(GeneratorError, match=f"is a {name}, which is no text-to-image pipeline"):
        load(copy)


def test_what_an_image_to_image_pipeline_saved_is_taken(copy: Path) -> None:
    kind = "StableDiffusionImg2ImgPipeline"
    edit(copy / "model_index.json", lambda content: content.update(_class_name=kind))
    assert load(copy).image_size == 48


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"sample_size": [12, 16]}, r"latents of \[12, 16\], no squares"),
        ({"sample_size": None}, "says no size"),
    ],
)
def test_a_size_that_the_model_does_not_say_is_asked_for(
    copy: Path, config: Mapping[str, object], problem: str
) -> None:
    edit(copy / "unet" / "config.json", lambda content: content.update(config))
    with pytest.raises(GeneratorError, match=rf"image-size=0 .*{problem} \(set generator.image-si"):
        load(copy)
    assert load(copy, image_size=64).image_size == 64


def test_a_size_of_two_equal_sides_is_taken(copy: Path) -> None:
    edit(copy / "unet" / "config.json", lambda content: content.update(sample_size=[12, 12]))
    assert load(copy).image_size == 48


def test_an_index_that_cannot_be_read_is_refused(copy: Path) -> None:
    (copy / "model_index.json").write_text("[")
    with pytest.raises(GeneratorError, match=r"model_index\.json cannot be read"):
        resolve_generator(str(copy))
