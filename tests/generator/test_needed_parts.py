"""Pipelines' folders that are not whole: refused before anything is loaded, by the part's name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from regl_app.core.errors import GeneratorError
from regl_app.generator.checkpoint import resolve_generator


@pytest.fixture
def copy(second_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(second_pipeline, tmp_path / "copy"))


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",), ("vocab.json",)])
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
