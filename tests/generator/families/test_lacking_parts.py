"""What of a pipeline of each family has to be there, and what it can do without."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.core.errors import GeneratorError
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.weight_files import parts_of, read_index

FAMILIES = ("sdxl", "lcm", "sd3", "pixart", "sana", "flux-dev")


@pytest.mark.parametrize("name", FAMILIES)
def test_each_tokenizer_has_to_have_words(
    name: str, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = pipelines(name)
    assert resolve_generator(str(whole)) == whole
    for part in (each for each in parts_of(read_index(whole)) if each.startswith("tokenizer")):
        copy = Path(shutil.copytree(whole, tmp_path / part))
        (copy / part / "tokenizer.json").unlink()
        with pytest.raises(GeneratorError, match=rf"its '{part}' has no vocabulary"):
            resolve_generator(str(copy))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_part_has_to_be_there_with_its_config(
    name: str, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = pipelines(name)
    for part in parts_of(read_index(whole)):
        copy = Path(shutil.copytree(whole, tmp_path / part))
        for config in (copy / part).glob("*config.json"):
            config.unlink()
        if not part.startswith("tokenizer"):
            with pytest.raises(GeneratorError, match=rf"its '{part}'.* (is missing|has no) "):
                resolve_generator(str(copy))
        shutil.rmtree(copy / part)
        if part == "text_encoder_3":
            continue  # may be deleted
        with pytest.raises(GeneratorError, match=rf"its '{part}', which .* is missing \(fetch it "):
            resolve_generator(str(copy))


def test_of_a_t5_that_was_deleted_no_words_are_asked(
    pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pipelines("sd3"), tmp_path / "copy"))
    shutil.rmtree(copy / "tokenizer_3")
    with pytest.raises(GeneratorError, match="its 'tokenizer_3', which"):
        resolve_generator(str(copy))
    shutil.rmtree(copy / "text_encoder_3")
    assert resolve_generator(str(copy)) == copy
