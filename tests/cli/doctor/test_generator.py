"""What ``regl doctor`` says of a checkpoint that is not whole, or not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.cli.doctor.finding import Finding
from regl_app.cli.doctor.machine import examine
from regl_app.config import RunConfig
from regl_app.core.types import Scalar


@pytest.fixture
def copy(second_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a pipeline's folder below the one that the doctor is asked in."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(second_pipeline, tmp_path / "ck" / "sd"))


def told(path: Path | str) -> dict[str, Finding]:
    """Return what is found of ``generator.path``, by topic."""
    keys = {"method": "regl", "cache-dir": "cache", "generator.path": str(path)}
    return {finding.topic: finding for finding in examine(RunConfig.from_flat(keys))}


def without_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


def without_words(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()


def without_vae(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def without_scheduler_config(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text("{", encoding="utf-8")


def of_pointers(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        file.write_text("version https://git-lfs.example/spec/v1\n", encoding="utf-8")


def cut(folder: Path) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_tokenizer, "its 'tokenizer', which model_index.json names, is missing"),
        (without_words, "its 'tokenizer' has no vocabulary"),
        (without_vae, "its 'vae', which model_index.json names, is missing"),
        (without_scheduler_config, "its 'scheduler' has a scheduler_config.json that cannot"),
        (of_pointers, "git lfs pull"),
        (cut, "model.safetensors' cannot be read: "),
    ],
)
def test_a_folder_that_is_not_whole_fails(
    copy: Path, damage: Callable[[Path], None], says: str
) -> None:
    damage(copy)
    findings = told(copy)
    assert findings["generator"].status == "fail"
    assert says in findings["generator"].detail
    assert "fetch" in findings["generator"].detail
    assert "memory" not in findings, "told of what is not there"


@pytest.mark.usefixtures("uncounted")
def test_a_part_that_is_a_link_counts_in_its_size(copy: Path, tmp_path: Path) -> None:
    before = told(copy)["generator"].detail
    (copy / "unet").rename(tmp_path / "elsewhere")
    (copy / "unet").symlink_to(tmp_path / "elsewhere")
    assert told(copy)["generator"].detail == before and " 0.0 MB" not in before


@pytest.mark.parametrize("key", ["generator.path", "generator.image-encoder"])
def test_a_mistyped_folder_is_not_taken_for_a_hub_id(copy: Path, key: str) -> None:
    keys: dict[str, Scalar] = {"method": "regl", "cache-dir": "cache", "lora.image-tokens": 4}
    for path, status in (("ck/sdd@v1.0", "fail"), ("owner/sdd", "note"), ("ck/turbo", "note")):
        config = RunConfig.from_flat(keys | {key: path})
        topic = "generator" if key == "generator.path" else "image encoder"
        (finding,) = [each for each in examine(config) if each.topic == topic]
        assert finding.status == status
        assert ("(did you mean 'ck/sd'?)" in finding.detail) == (status == "fail")
        assert ("hf download ck/sdd --revision v1.0" in finding.remedy) == (status == "fail")
        assert ("holds no 'turbo' (it holds 'sd'); " in finding.detail) == (path == "ck/turbo")
        assert ("first used" in finding.detail) == (status == "note")


@pytest.mark.parametrize("path", ["./ck/sdd", "{}/ck/sdd", "ck/sdd.safetensors"])
def test_what_can_be_no_hub_id_has_near_names_too(copy: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "ck" / "sd.safetensors").touch()
    finding = told(path.format(tmp_path))["generator"]
    assert finding.status == "fail" and "is no folder" in finding.detail
    assert "(did you mean '" in finding.detail and "ck/sd" in finding.detail
