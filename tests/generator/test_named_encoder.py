"""Image encoders that a run names: they read as in transformers, or are refused with the remedy."""

from __future__ import annotations

import json
import shutil
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator import named_encoder
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.encoder_files import image_encoder_digest, resolve_image_encoder
from regl_app.generator.foundation import Foundation
from regl_app.generator.identity import identity_of
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.image_features import image_features
from regl_app.generator.named_encoder import NamedEncoder, check_image_encoder

CPU = torch.device("cpu")
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
VISION = {**SHAPE, "patch_size": 16, "intermediate_size": 16}
TEXT = {**VISION, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1}


def _clip(*, projected: bool) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    kind = CLIPVisionModelWithProjection if projected else CLIPVisionModel
    return kind(CLIPVisionConfig(**VISION, projection_dim=8))


def _both_sides(name: str) -> Any:
    import transformers

    config = getattr(transformers, f"{name}Config")
    extra = {"projection_dim": 8} if name == "CLIP" else {}
    made = config(text_config=TEXT, vision_config=VISION, **extra)
    return getattr(transformers, f"{name}Model")(made)


def _siglip() -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return SiglipVisionModel(SiglipVisionConfig(**VISION))


def _dinov2() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(**SHAPE, patch_size=16, mlp_ratio=1))


def _vit() -> Any:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**VISION), add_pooling_layer=False)


def _resnet() -> Any:
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**{**VISION, "vocab_size": 20}))


MODELS: Mapping[str, Callable[[], Any]] = {
    "clip": lambda: _clip(projected=True),
    "clip-unprojected": lambda: _clip(projected=False),
    "clip-both-sides": lambda: _both_sides("CLIP"),
    "siglip": _siglip,
    "siglip-both-sides": lambda: _both_sides("Siglip"),
    "dinov2": _dinov2,
    "resnet": _resnet,
    "vit": _vit,
    "bert": _bert,
}
PROCESSORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    # With other means than usual, another size than the model's own before the crop, and so on.
    "clip": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
    "siglip": (
        "SiglipImageProcessor",
        {"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3]},
    ),
    "dinov2": (
        "BitImageProcessor",
        {
            "size": {"shortest_edge": 36},
            "crop_size": {"height": 32, "width": 32},
            "image_std": [0.4, 0.5, 0.6],
        },
    ),
}


def processor_of(name: str) -> Any:
    import transformers

    kind, settings = PROCESSORS.get(name.partition("-")[0], PROCESSORS["dinov2"])
    return getattr(transformers, kind)(**settings)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Return what gives the folder of a tiny random encoder by its name, and the model itself."""
    made: dict[str, tuple[Path, Any]] = {}

    def folder(name: str) -> tuple[Path, Any]:
        if name not in made:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = MODELS[name]().eval()
            place = tmp_path_factory.mktemp(name)
            model.save_pretrained(place)
            processor_of(name).save_pretrained(place)
            made[name] = place, model
        return made[name]

    return folder


@pytest.fixture
def copied(encoders: Callable[[str], tuple[Path, Any]], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(encoders(name)[0], tmp_path / name))


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    return Foundation.load(
        GeneratorConfig(path=str(second_pipeline), precision="fp32"), ("a cat", "a dog")
    )


def pictures(*shape: int) -> torch.Tensor:
    made = torch.randint(0, 256, shape, generator=torch_generator(0, "pictures"))
    return made.to(torch.uint8)


def named(folder: Path) -> NamedEncoder:
    return NamedEncoder(str(folder), image_encoder_digest(folder))


def read(folder: Path, shown: torch.Tensor) -> torch.Tensor:
    with named(folder).on(CPU) as features:
        return features(shown)


def expected(name: str, model: Any, shown: torch.Tensor) -> torch.Tensor:
    pixels = processor_of(name)(list(shown), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        if name == "clip-both-sides":
            return model.visual_projection(model.vision_model(pixels).pooler_output)
        reader = model.vision_model if name == "siglip-both-sides" else model
        output = reader(pixel_values=pixels)
        return output.image_embeds if name == "clip" else output.pooler_output.flatten(1)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("vit", "bert")])
def test_features_are_those_of_transformers_with_the_encoders_own_preprocessing(
    encoders: Callable[[str], tuple[Path, Any]], name: str
) -> None:
    folder, model = encoders(name)
    assert check_image_encoder(str(folder)) == folder
    shown = pictures(3, 3, 48, 40)
    features, wanted = read(folder, shown), expected(name, model, shown)
    assert features.shape == (3, 8 if name in ("clip", "clip-both-sides") else 16)
    assert torch.allclose(features, wanted, atol=1e-5) and features.std(0).max() > 1e-3
    grey = pictures(2, 1, 40, 40)
    wanted = expected(name, model, grey.expand(2, 3, 40, 40))
    assert torch.allclose(read(folder, grey), wanted, atol=1e-5)


def test_a_clip_without_a_preprocessor_is_shown_pictures_as_in_diffusers(
    copied: Callable[[str], Path], encoders: Callable[[str], tuple[Path, Any]]
) -> None:
    from transformers import CLIPImageProcessor

    folder = copied("clip")
    (folder / "preprocessor_config.json").unlink()
    shown = pictures(2, 3, 48, 40)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    with torch.no_grad():
        pixels = processor(list(shown), return_tensors="pt")["pixel_values"]
        wanted = encoders("clip")[1](pixels).image_embeds
    assert torch.allclose(read(folder, shown), wanted, atol=1e-5)


def test_weights_that_are_only_there_in_a_variant_are_read_and_others_do_not_count(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("clip")
    shown = pictures(2, 3, 32, 32)
    before, digest = read(folder, shown), image_encoder_digest(folder)
    (folder / "open_clip_pytorch_model.safetensors").write_bytes(b"another library's")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "tokenizer_config.json").write_text("{}")
    assert image_encoder_digest(folder) == digest
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    assert torch.equal(read(folder, shown), before)


def test_image_tokens_are_tuned_on_its_features_and_the_model_is_gone_afterwards(
    encoders: Callable[[str], tuple[Path, Any]],
    foundation: Foundation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, model = encoders("clip")
    seen: list[weakref.ref[Any]] = []
    load = named_encoder.load_encoder

    def watched(*arguments: Any) -> tuple[Any, Any]:
        made = load(*arguments)
        seen.append(weakref.ref(made[0]))
        return made

    monkeypatch.setattr(named_encoder, "load_encoder", watched)
    real = ImageSet(pictures(6, 3, 48, 48), torch.arange(6) % 2)
    latents = encode_latents(foundation, real.pixels)
    features = image_features(foundation, real.pixels, latents, 4, named(folder))
    assert torch.allclose(features, expected("clip", model, real.pixels), atol=1e-5)
    lora = LoraConfig(steps=3, rank=2, image_tokens=2)
    state = tune_lora(foundation, real, lora, seed=0, image_encoder=named(folder)).state
    assert state["image_tokens.looks"].shape == (6, 8)
    # Classes take turns in what is kept.
    order = [0, 1, 2, 3, 4, 5]
    relative = features - torch.stack([features[label::2].mean(0) for label in (0, 1)] * 3)
    ratio = state["image_tokens.looks"] / relative[order]
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-2)
    assert state["image_tokens.weight"].any()
    assert [each() for each in seen] == [None, None]


def test_looking_at_it_leaves_the_libraries_as_they_were_whoever_else_is_looking(
    encoders: Callable[[str], tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of one process look at the same moment, and what is changed is the process's."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    look, first, seen = named_encoder._config, threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        if first.is_set():  # the second to come goes on when the first has gone, or after a while
            seen.wait(0.5)
        else:
            first.set()
            seen.wait(0.2)
        return look(*arguments)

    monkeypatch.setattr(named_encoder, "_config", slowly)
    folder = str(encoders("clip")[0])
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(check_image_encoder, folder)
        first.wait()
        other = threads.submit(check_image_encoder, folder)
        one.result()
        other.result()
    assert logging.get_verbosity() == before


def test_files_that_were_replaced_in_the_midst_of_a_run_are_not_taken_for_the_former(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("clip")
    encoder = named(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    with pytest.raises(GeneratorError, match="were replaced in the midst"), encoder.on(CPU):
        pass


def _without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _with_code(folder: Path) -> None:
    table = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": table}))
    (folder / "evil.py").write_text("raise SystemExit('it was run')")


def _sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def _nested(folder: Path) -> None:
    shutil.move(folder / "config.json", folder.parent / "config.json")
    (folder / "image_encoder").mkdir()
    shutil.move(folder.parent / "config.json", folder / "image_encoder" / "config.json")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("clip", lambda f: _without(f, "model.safetensors"), "has no safetensors weights"),
        ("clip", _pickled, "'pytorch_model.bin', a pickle.*never read.*save_pretrained"),
        ("clip", _sharded, "has 1 of 2 shards"),
        ("clip", _nested, "holds no config.json.*may be '.*image_encoder'"),
        ("clip", lambda f: (f / "config.json").write_text("{]"), "config.json is of no model"),
        ("clip", _with_code, "code that comes with a model is not run"),
        (
            "clip",
            lambda f: (f / "preprocessor_config.json").write_text("{]"),
            "preprocessor_config.json is of no use",
        ),
        (
            "siglip",
            lambda f: _without(f, "preprocessor_config.json"),
            "holds no preprocessor_config.json: how a 'siglip_vision_model'",
        ),
        ("bert", lambda f: None, "a 'bert', which makes no features of pictures alone"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused_before_anything_is_loaded(
    copied: Callable[[str], Path], name: str, spoil: Callable[[Path], object], said: str
) -> None:
    folder = copied(name)
    spoil(folder)
    with pytest.raises(GeneratorError, match=rf"(?s)^generator.image-encoder '.*{said}"):
        check_image_encoder(str(folder))


@pytest.mark.parametrize("path", ["absent", "./absent", "/absent/x", "~/absent-x", __file__])
def test_what_is_no_folder_is_refused_with_what_is_allowed(path: str) -> None:
    with pytest.raises(GeneratorError, match=r"is no folder \(give 'auto', the folder of"):
        resolve_image_encoder(path)


def _of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))


def _not_finite(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][:] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("vit", lambda f: None, "lacks 2 weights of ViTModel, such as 'pooler.*would be random"),
        ("clip", _of_another_width, "cannot be loaded as CLIPVisionModelWithProjection"),
        ("clip", _not_finite, "features that are not finite"),
    ],
)
def test_an_encoder_that_is_not_whole_makes_no_features(
    copied: Callable[[str], Path], name: str, spoil: Callable[[Path], object], said: str
) -> None:
    folder = copied(name)
    spoil(folder)
    with pytest.raises(GeneratorError, match=rf"(?s)^generator.image-encoder '.*{said}"):
        read(folder, pictures(1, 3, 32, 32))


def test_a_device_that_does_not_hold_it_is_named_with_what_to_do(
    encoders: Callable[[str], tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with (
        pytest.raises(GeneratorError, match="GB of weights do not fit into cpu with its mem"),
        named(encoders("clip")[0]).on(CPU),
    ):
        pass


def test_a_run_is_told_by_its_encoder_where_that_reads_pictures_and_there_alone(
    encoders: Callable[[str], tuple[Path, Any]],
) -> None:
    folder = encoders("clip")[0]
    keys = {"method": "regl", "generator.image-encoder": str(folder)}
    plain = identity_of(RunConfig.from_flat({"method": "regl"}))
    assert identity_of(RunConfig.from_flat(keys)) == plain
    used = RunConfig.from_flat({**keys, "lora.image-tokens": 2})
    assert identity_of(used) == f"{plain}, image encoder {image_encoder_digest(folder)}"
    absent = used.updated({"generator.image-encoder": "/absent"})
    assert identity_of(absent) == f"{plain}, image encoder unknown"
    shown = used.updated({"generator.ip-adapter": "/absent", "lora.image-tokens": 0})
    encoder = image_encoder_digest(folder)
    assert identity_of(shown) == f"{plain}, image encoder {encoder}, IP-Adapter unknown"
    for unread in ({"method": "fedavg"}, {"supplement.adapter": "frozen"}):
        config = RunConfig.from_flat({**keys, "lora.image-tokens": 2, **unread})
        assert config.image_encoder == ""
