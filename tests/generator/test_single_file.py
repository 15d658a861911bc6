"""A checkpoint of one file, in the names of the original Stable Diffusion, and its configs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.files import sha256_file
from regl_app.core.types import Tensors
from regl_app.generator import single_file
from regl_app.generator.adaptation.shared import up_template
from regl_app.generator.adapters import most_adapter_bytes
from regl_app.generator.checkpoint import generator_digest, resolve_generator
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample

CONCEPTS = ("a cat", "a dog")
CONFIG = GeneratorConfig(steps=2, precision="fp32")
_RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)
_ATTENTION = (("group_norm", "norm"), ("to_out.0", "proj_out"))


def _unet_name(name: str) -> str:
    """Return the original name of a tensor of a UNet with two levels and one layer a block."""
    for pattern, block in (
        (r"down_blocks\.(\d)\.(\w+)\.0\.(.*)", "input_blocks"),
        (r"up_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", "output_blocks"),
    ):
        if match := re.fullmatch(pattern, name):
            level, kind, *layer, rest = match.groups()
            if kind == "downsamplers":
                return f"input_blocks.{2 * int(level) + 2}.0.{rest.replace('conv', 'op')}"
            number = 2 * int(level) + (1 if block == "input_blocks" else int(layer[0]))
            if kind == "upsamplers":
                return f"output_blocks.{2 * int(level) + 1}.{2 - int(level)}.{rest}"
            if kind == "attentions":
                return f"{block}.{number}.1.{rest}"
            return f"{block}.{number}.0.{_renamed(rest, _RESNET)}"
    if match := re.fullmatch(r"mid_block\.(\w+)\.(\d)\.(.*)", name):
        kind, layer, rest = match[1], match[2], match[3]
        if kind == "attentions":
            return f"middle_block.1.{rest}"
        return f"middle_block.{2 * int(layer)}.{_renamed(rest, _RESNET)}"
    return _by_table("unet", name)


def _vae_name(name: str, levels: int) -> str:
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.(\w+)\.(\d)\.(.*)", name):
        half, kind, layer, rest = match[1], match[2], match[3], match[4]
        if kind == "attentions":
            return f"{half}.mid.attn_1.{_renamed(rest, _ATTENTION).replace('to_', '')}"
        return f"{half}.mid.block_{int(layer) + 1}.{rest}"
    if match := re.fullmatch(r"(?:en|de)coder\.(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name):
        way, level, kind, layer, rest = match[1], int(match[2]), match[3], match[4], match[5]
        half, level = ("encoder", level) if way == "down" else ("decoder", levels - 1 - level)
        if kind == "resnets":
            return f"{half}.{way}.{level}.block.{layer}.{rest.replace('conv_short', 'nin_short')}"
        return f"{half}.{way}.{level}.{way}sample.{rest}"
    return _by_table("vae", name)


def _renamed(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for new, old in table:
        name = name.replace(new, old)
    return name


def _by_table(part: str, name: str) -> str:
    from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING

    table = DIFFUSERS_TO_LDM_MAPPING[part]
    return str((table["layers"] if part == "unet" else table)[name])


def in_one_file(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the tests' second pipeline as one file of Stable Diffusion has them."""

    def part(name: str, file: str = "diffusion_pytorch_model") -> Tensors:
        return load_file(folder / name / f"{file}.safetensors")

    text = part("text_encoder", "model")
    return {
        **{f"model.diffusion_model.{_unet_name(n)}": t for n, t in part("unet").items()},
        **{f"first_stage_model.{_vae_name(n, 3)}": t for n, t in part("vae").items()},
        **{
            f"cond_stage_model.transformer.text_model.{n.removeprefix('text_model.')}": t
            for n, t in text.items()
        },
    }


@pytest.fixture(scope="module")
def file(second_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a single file with its configs beside it."""
    path = tmp_path_factory.mktemp("single") / "tiny.v1.safetensors"
    save_file(in_one_file(second_pipeline), path)
    without = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(second_pipeline, path.with_suffix(""), ignore=without)
    return path


def test_its_images_are_those_of_the_folder(file: Path, second_pipeline: Path) -> None:
    images = [
        sample(
            Foundation.load(CONFIG.model_copy(update={"path": str(path)}), CONCEPTS),
            [0, 1],
            [0, 0],
            CONFIG,
            stream=1,
        )
        for path in (file, second_pipeline)
    ]
    assert torch.equal(*images)


def test_what_an_adapter_looks_like_is_known_without_loading_it(
    file: Path, second_pipeline: Path
) -> None:
    lora = LoraConfig(layers="all", rank=2)
    ours, theirs = up_template(file, lora), up_template(second_pipeline, lora)
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert most_adapter_bytes(file, 4) == most_adapter_bytes(second_pipeline, 4)


def test_its_digest_is_of_weights_and_configs_wherever_they_lie(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "renamed.safetensors"
    shutil.copy(file, other)
    shutil.copytree(file.with_suffix(""), other.with_suffix(""))
    assert generator_digest(other) == generator_digest(file)
    scheduler = other.with_suffix("") / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("epsilon", "v_prediction"))
    assert generator_digest(other) != generator_digest(file)
    shutil.copy(file.with_suffix("") / "scheduler" / scheduler.name, scheduler)
    weights = load_file(other)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, other)
    assert sha256_file(other) != sha256_file(file)
    assert generator_digest(other) != generator_digest(file)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.diffusion_model.out.2.weight", "lacks weights that the configs"),
        ("first_stage_model.quant_conv.bias", "lacks weights that the configs"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.weight",
            r"cut\.safetensors.*'text_encoder' lacks 1 of the weights",
        ),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused(
    file: Path, tmp_path: Path, name: str, words: str
) -> None:
    other = tmp_path / "cut.safetensors"
    weights = load_file(file)
    del weights[name]
    save_file(weights, other)
    shutil.copytree(file.with_suffix(""), other.with_suffix(""))
    with pytest.raises(GeneratorError, match=words):
        Foundation.load(CONFIG.model_copy(update={"path": str(other)}), CONCEPTS)


def test_without_configs_it_says_where_to_get_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    alone = tmp_path / "alone.safetensors"
    shutil.copy(file, alone)
    with pytest.raises(GeneratorError, match=r"stable-diffusion-v1-5.*Put them beside it.*alone'"):
        resolve_generator(str(alone), fetch=False)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(1)}, lora)
    with pytest.raises(GeneratorError, match="is a LoRA"):
        resolve_generator(str(lora))
    lora.write_bytes(b"PK")
    with pytest.raises(GeneratorError, match=r"cannot be read as safetensors.*incomplete.*again"):
        resolve_generator(str(lora))
    lora.write_text("version https://git-lfs.example/spec/v1\n", encoding="utf-8")
    with pytest.raises(GeneratorError, match=r"cannot be read as safetensors.*git lfs pull"):
        resolve_generator(str(lora))
    with pytest.raises(GeneratorError, match=r"'models/sd\.safetensors' is no folder"):
        resolve_generator("models/sd.safetensors")


T5 = ("block.0.layer.0.SelfAttention.q", "embed_tokens", "final_layer_norm")


def test_a_file_that_may_not_be_mapped_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("Cannot allocate memory (os error 12)")

    file = tmp_path / "large.safetensors"
    save_file({"model.diffusion_model.out.2.weight": torch.zeros(1)}, file)
    monkeypatch.setattr("regl_app.generator.single_file.safe_open", no_room)
    with pytest.raises(GeneratorError, match=r"large\.safetensors' cannot .* ulimit -v unlimited"):
        resolve_generator(str(file))


@pytest.mark.parametrize("configs", [True, False])
@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["emb_params"], "a textual inversion"),
        (["clip_g", "clip_l"], "a textual inversion"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight", "conv_in.weight"], "a ControlNet"),
        (["first_stage_model.encoder.conv_in.weight"], "a VAE alone"),
        (["decoder.conv_in.weight", "quant_conv.bias"], "a VAE alone"),
        (["encoder.down.0.block.0.norm1.bias", "decoder.norm_out.bias"], "a VAE alone"),
        ([f"encoder.{name}.weight" for name in T5], "a text encoder alone"),
        (["shared.weight", *(f"encoder.{name}.weight" for name in T5)], "a text encoder alone"),
        (["encoder.layer.0.output.dense.bias"], "of another kind, with tensors such as 'encoder"),
        (["cond_stage_model.transformer.text_model.final_layer_norm.bias"], "a text encoder alone"),
        (["conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"], "a text enc"),
        (["image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight"], "an IP-Adapter, which gen"),
        (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "a UNet alone, in diffusers"),
        (["down_blocks.0.motion_modules.0.norm.weight"], "a motion module"),
        (["fc.weight", "conv1.weight"], "of another kind, with tensors such as 'conv1.weight'"),
        ([], "of another kind, without any tensor"),
    ],
)
def test_a_file_without_a_denoiser_is_refused_by_what_it_seems_to_be(
    second_pipeline: Path, tmp_path: Path, names: list[str], says: str, configs: bool
) -> None:
    file = tmp_path / "part.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)
    if configs:
        shutil.copytree(second_pipeline, file.with_suffix(""))
    with pytest.raises(GeneratorError, match=rf"has no denoiser: it seems to be {says}.*\(give "):
        resolve_generator(str(file), fetch=False)


@pytest.mark.parametrize("before", ["", "model.diffusion_model."])
def test_a_denoiser_may_go_by_its_bare_names_as_those_of_flux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    file = tmp_path / "flux.safetensors"
    names = (f"{before}double_blocks.0.img_attn.norm.key_norm.scale", "vae.decoder.conv_in.bias")
    save_file({name: torch.zeros(1) for name in names}, file)
    with pytest.raises(GeneratorError, match=r"holds weights alone, of '.*FLUX"):
        resolve_generator(str(file), fetch=False)


@pytest.mark.parametrize("name", ["sd.ckpt", "sd.bin", "sd.pt"])
def test_pickles_are_refused_by_name_and_never_opened(name: str, tmp_path: Path) -> None:
    for path in (name, str(tmp_path / name)):
        with pytest.raises(GeneratorError, match=rf"{name}' is a pickle.*save_pretrained"):
            resolve_generator(path)


V = {"prediction_type": "v_prediction"}
ZERO = V | {"rescale_betas_zero_snr": True}
MARK = torch.zeros(0)


def marked(file: Path, place: Path, names: Sequence[str], metadata: Mapping[str, str]) -> Path:
    """Return a copy of a single file that tells more of itself, without configs."""
    save_file(load_file(file) | dict.fromkeys(names, MARK), place, dict(metadata))
    return place


def with_configs(file: Path, configs: Path, scheduler: Mapping[str, object]) -> None:
    """Lay ``configs`` beside ``file``, the scheduler's with more entries."""
    folder = Path(shutil.copytree(configs, file.with_suffix("")))
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | scheduler))


@pytest.mark.parametrize(
    ("names", "metadata", "scheduler", "told"),
    [
        (["v_pred"], {}, {}, r"its tensor 'v_pred'.*\"prediction_type\": \"v_prediction\" in"),
        (["v_pred"], {}, V, ""),
        (["v_pred", "ztsnr"], {}, {}, r"and 'ztsnr'.*\"rescale_betas_zero_snr\": true, \"timeste"),
        (["v_pred", "ztsnr"], {}, V, r"set \"rescale_betas_zero_snr\": true"),
        (["v_pred", "ztsnr"], {}, ZERO, ""),
        ([], {"modelspec.prediction_type": "v"}, {}, "metadata modelspec.prediction_type=v"),
        ([], {"modelspec.prediction_type": "v"}, V, ""),
        ([], {"modelspec.prediction_type": "epsilon"}, V, r"\"prediction_type\": \"epsilon\""),
        ([], {"modelspec.prediction_type": "epsilon"}, {}, ""),
        (["edm_vpred.sigma_max"], {}, V, "scale of noise of EDM"),
        ([], {}, V, ""),
    ],
)
def test_what_it_says_it_predicts_is_held_against_its_configs(
    file: Path,
    tmp_path: Path,
    names: list[str],
    metadata: dict[str, str],
    scheduler: dict[str, object],
    told: str,
) -> None:
    other = marked(file, tmp_path / "noob.safetensors", names, metadata)
    with_configs(other, file.with_suffix(""), scheduler)
    if not told:
        assert resolve_generator(str(other)) == other
        return
    with pytest.raises(GeneratorError, match=told):
        resolve_generator(str(other))


def test_configs_of_the_hub_are_asked_too(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_file, "fetch_configs", lambda *_, **__: file.with_suffix(""))
    other = marked(file, tmp_path / "noob.safetensors", ["v_pred"], {})
    with pytest.raises(GeneratorError, match=r"Put them beside it.*noob'.*hf download.*set \"p"):
        resolve_generator(str(other))


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({}, r"nothing in it says whether.*prediction_type in scheduler/scheduler_config\.json"),
        ({"modelspec.prediction_type": "v"}, r"of 'stabilityai/stable-diffusion-2-1' as"),
        ({"modelspec.prediction_type": "epsilon"}, r"of 'stabilityai/stable-diffusion-2-1-base' a"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, r"diffusion-2-1-base' as"),
    ],
)
def test_a_stable_diffusion_2_is_of_either_kind(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metadata: dict[str, str],
    told: str,
) -> None:
    from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    other = tmp_path / "sd2.safetensors"
    save_file({CHECKPOINT_KEY_NAMES["v2"]: torch.zeros(1, 1024)}, other, metadata)
    with pytest.raises(GeneratorError, match=told):
        resolve_generator(str(other), fetch=False)
    with_configs(other, file.with_suffix(""), V if "2-1' as" in told else {})
    assert resolve_generator(str(other), fetch=False) == other
