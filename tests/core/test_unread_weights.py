"""Files of weights that are none: what is said of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regl_app.core.unread_weights import damage, is_pointer, why_unread

POINTER = "version https://git-lfs.example/spec/v1\noid sha256:abc\nsize 3\n"


def test_a_whole_file_has_nothing_of_the_kind(tmp_path: Path) -> None:
    file = tmp_path / "whole.safetensors"
    save_file({"a": torch.ones(3, dtype=torch.bfloat16)}, file)
    assert damage(file) == "" and not is_pointer(file)


def test_a_pointer_is_told_from_a_file_that_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "pointer.safetensors"
    file.write_text(POINTER, encoding="utf-8")
    assert is_pointer(file) and "git lfs pull in its repository, or hf download" in damage(file)


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_wherever_it_was_cut_it_is_incomplete(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "cut.safetensors"
    save_file({"a": torch.ones(3)}, file)
    file.write_bytes(file.read_bytes()[:kept])
    assert damage(file).endswith("(incomplete, or no safetensors file: fetch it again)")


def test_of_a_file_that_is_not_there_the_system_s_word_is_enough(tmp_path: Path) -> None:
    assert why_unread(tmp_path / "none.safetensors", "No such file") == "No such file"
