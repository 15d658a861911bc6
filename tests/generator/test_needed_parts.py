"""Pipelines' folders that are not whole: refused before anything is loaded, by the part's name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator.checkpoint import generator_digest, resolve_generator
from regl_app.generator.foundation import Foundation
from regl_app.generator.weight_files import names_in

POINTER = "version https://git-lfs.example/spec/v1\noid sha256:abc\nsize 3\n"


@pytest.fixture
def copy(second_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(second_pipeline, tmp_path / "copy"))


@pytest.mark.parametrize("kept", [("tokenizer_config.json",), ("vocab.json",)])
def test_a_tokenizer_without_vocabulary_is_refused_by_its_folder(
    copy: Path, kept: tuple[str, ...]
) -> None:
    tokenizer = copy / "tokenizer"
    words = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tokenizer / "vocab.json").write_text(json.dumps(words["vocab"]), encoding="utf-8")
    for file in tokenizer.iterdir():
        if file.name not in kept:
            file.unlink()
    says = rf"'tokenizer' has no vocabulary, as {re.escape(repr(str(tokenizer)))}.*\(fetch that fol"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(copy))


def test_a_vocabulary_of_two_files_is_one(copy: Path) -> None:
    tokenizer = copy / "tokenizer"
    (tokenizer / "tokenizer.json").rename(tokenizer / "vocab.json")
    (tokenizer / "merges.txt").touch()
    assert resolve_generator(str(copy)) == copy


def test_a_clip_that_does_not_say_how_much_it_reads_is_refused(copy: Path) -> None:
    (copy / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(GeneratorError, match=r"'tokenizer' has no tokenizer_config\.json, which"):
        resolve_generator(str(copy))


def test_all_that_is_missing_is_named_at_once(copy: Path) -> None:
    for part in ("vae", "scheduler"):
        shutil.rmtree(copy / part)
    says = r"its 'scheduler' and 'vae', which model_index\.json names, are missing \(fetch it again"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(copy))


@pytest.mark.parametrize(("content", "says"), [('{"a": ', "cannot be read"), ("[]", "no object")])
def test_a_config_that_was_cut_is_refused_by_its_part(copy: Path, content: str, says: str) -> None:
    (copy / "vae" / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(GeneratorError, match=rf"'vae' has a config\.json that .*{says}.*again"):
        resolve_generator(str(copy))


def test_the_index_itself_may_be_a_pointer(copy: Path) -> None:
    (copy / "model_index.json").write_text(POINTER, encoding="utf-8")
    says = r"model_index\.json cannot be read: it is a pointer of Git LFS.*git lfs pull"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(copy))


def test_a_pipeline_that_may_not_be_mapped_is_told_with_the_limit(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("regl_app.generator.foundation.load_pipeline", refused)
    config = GeneratorConfig(path=str(copy), steps=2, guidance=1.0, precision="fp32")
    says = r"cannot be loaded: MemoryError \(lift the limit.*ulimit -v unlimited"
    with pytest.raises(GeneratorError, match=says):
        Foundation.load(config, ("a cat",))


CONFIGS = ("scheduler/scheduler_config.json", "vae/config.json", "unet/config.json")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_may_be_a_pointer_or_no_file_at_all(copy: Path, name: str) -> None:
    (copy / name).write_text(POINTER, encoding="utf-8")
    says = r"has a \w+\.json that cannot be read: it is a pointer of Git LFS.* hf download\)$"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(copy))
    (copy / name).unlink()
    (copy / name).mkdir()
    (copy / name).with_name("README.txt").touch()
    says = r"has a \w+\.json that cannot be read: Is a directory \(fetch that folder again, whole\)"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(str(copy))


PARTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_cannot_be_read_are_refused_with_the_remedy(copy: Path, part: str) -> None:
    file = copy / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    where = re.escape(repr(str(file)))
    with pytest.raises(GeneratorError, match=rf"{where} cannot be read: .*incomplete.*again\)$"):
        resolve_generator(str(copy))
    file.write_text(POINTER, encoding="utf-8")
    with pytest.raises(GeneratorError, match=rf"{where} .* Git LFS.*git lfs pull .*hf download"):
        resolve_generator(str(copy))


def test_a_vocabulary_may_be_a_pointer_too(copy: Path) -> None:
    (copy / "tokenizer" / "tokenizer.json").write_text(POINTER, encoding="utf-8")
    with pytest.raises(GeneratorError, match=r"tokenizer\.json' cannot be read: .* Git LFS"):
        resolve_generator(str(copy))


def test_what_is_never_read_may_be_damaged(copy: Path) -> None:
    for name in ("unet/diffusion_pytorch_model.fp16.safetensors", "sd.safetensors"):
        (copy / name).write_text(POINTER, encoding="utf-8")
    assert resolve_generator(str(copy)) == copy


def test_what_reads_pictures_need_not_be_there(copy: Path) -> None:
    """As of Stable Diffusion 1.5, whose index names a checker and what it is shown."""
    index = copy / "model_index.json"
    named = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    }
    index.write_text(json.dumps(json.loads(index.read_text()) | named), encoding="utf-8")
    config = GeneratorConfig.model_validate({"path": str(copy)})
    foundation = Foundation.load(config, ("a cat", "a dog"))
    assert foundation.pipeline == "StableDiffusionPipeline" and foundation.image_encoder is None


def test_the_folder_beside_a_single_file_has_to_be_whole_but_for_weights(
    copy: Path, tmp_path: Path
) -> None:
    for file in copy.rglob("*.safetensors"):
        file.unlink()
    file = tmp_path / "copy.safetensors"
    save_file({"model.diffusion_model.out.2.weight": torch.zeros(1)}, file)
    assert resolve_generator(str(file)) == file
    shutil.rmtree(copy / "vae")
    with pytest.raises(GeneratorError, match="its 'vae', which"):
        resolve_generator(str(file))


def test_a_part_may_be_a_link_to_a_folder(copy: Path, tmp_path: Path) -> None:
    digest = generator_digest(copy)
    for part in ("text_encoder", "vae"):
        (copy / part).rename(tmp_path / part)
        (copy / part).symlink_to(tmp_path / part, target_is_directory=True)
    assert resolve_generator(str(copy)) == copy and generator_digest(copy) == digest
    Foundation.load(GeneratorConfig(path=str(copy)), ("a cat", "a dog"))
    (tmp_path / "vae" / "config.json").unlink()
    with pytest.raises(GeneratorError, match=r"'vae' has no config\.json"):
        resolve_generator(str(copy))


def test_names_behind_links_have_an_end(tmp_path: Path) -> None:
    for place in ("sd/unet/.hidden/a.json", "sd/.b.json", "one/c.json", "two/d.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    folder = tmp_path / "sd"
    plain = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    links = {
        "sd/self": ".",
        "sd/unet/up": "../..",
        "sd/unet/.hidden/root": "/",
        "sd/x": "../one",
        "sd/y": "../one",
        "sd/nowhere": "gone",
        "sd/e.json": "unet/.hidden/a.json",
        "one/other": "../two",
        "two/other": "../one",
    }
    for place, target in links.items():
        (tmp_path / place).symlink_to(target)
    behind = ["e.json", *(f"{part}/{name}" for part in "xy" for name in ("c.json", "other/d.json"))]
    assert names_in(folder) == sorted(plain + behind)
