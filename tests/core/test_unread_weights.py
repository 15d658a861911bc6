"""Files of weights that are none: what is said of each."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
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


def test_of_a_file_that_may_not_be_mapped_the_limit_is_told(tmp_path: Path) -> None:
    size = 64_000_000_000  # a hole, which takes no disk
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    head = json.dumps({"a": tensor}).encode()
    file = tmp_path / "large.safetensors"
    with file.open("wb") as content:
        content.write(len(head).to_bytes(8, "little") + head)
        content.truncate(8 + len(head) + size)
    assert damage(file) == ""
    limited = (
        "import resource, sys; from pathlib import Path; "
        "from regl_app.core.unread_weights import damage; "
        "resource.setrlimit(resource.RLIMIT_AS, (32_000_000_000, int(sys.argv[2]))); "
        "print(damage(Path(sys.argv[1])))"
    )
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    call = [sys.executable, "-c", limited, str(file), str(most)]
    said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert said.startswith("the system does not let this process map its 64.0 GB (lift the limit")
    assert "ulimit -v unlimited" in said
