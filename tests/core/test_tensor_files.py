from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from regl_app.core.tensor_files import is_intact, load_tensors, load_weights, save_tensors

TENSORS = {
    "weight": torch.arange(12.0).view(1, 3, 2, 2).to(memory_format=torch.channels_last),
    "half": torch.ones(2, 3, dtype=torch.bfloat16),
    "images": torch.zeros((0, 1, 4, 4), dtype=torch.uint8),
    "count": torch.tensor(7),
}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a" / "t.safetensors", TENSORS, note="for the test")
    loaded = load_tensors(tmp_path / "a" / "t.safetensors")
    assert loaded is not None
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_every_damaged_bit_of_the_content_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(path, TENSORS)
    whole = path.read_bytes()
    content = 8 + int.from_bytes(whole[:8], "little")
    for place in range(content, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert load_tensors(path) is None


@pytest.mark.parametrize("length", [0, 4, 60, -1])
def test_a_torn_file_is_seen(tmp_path: Path, length: int) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:length])
    assert load_tensors(path) is None


def test_a_tensor_under_another_name_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"one": torch.ones(2), "two": torch.zeros(2)})
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"six"'))
    assert load_tensors(path) is None


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("said", [None, {}, {"format": "pt"}])
def test_files_of_others_say_nothing_of_their_content(
    tmp_path: Path, said: dict[str, str] | None
) -> None:
    plain = save({"one": torch.ones(2)})
    start = 8 + int.from_bytes(plain[:8], "little")
    header = json.dumps({"__metadata__": said, **json.loads(plain[8:start])}).encode()
    content = len(header).to_bytes(8, "little") + header + plain[start:]
    assert is_intact(content, load(content)) is None
    (tmp_path / "others.safetensors").write_bytes(content)
    assert load_weights(tmp_path / "others.safetensors") is None
