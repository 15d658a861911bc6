from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
import torch

from regl_app.core.errors import GeneratorError, ProtocolError
from regl_app.generator.adaptation.cache import IN_USE_SECONDS, AdapterCache
from regl_app.generator.adaptation.lora import TunedAdapter
from regl_app.generator.adapters import WEIGHTS, save_adapter


def tuned() -> TunedAdapter:
    state = {
        "unet.conv.lora_A.weight": torch.ones(1, 2),
        "unet.conv.lora_B.weight": torch.ones(2, 1),
    }
    return TunedAdapter(state, 3, 0.5, 1.0, {"pairs": 4.0})


def test_an_adapter_from_another_machine_is_kept_by_its_digest(tmp_path: Path) -> None:
    sender, cache = AdapterCache(tmp_path / "a"), AdapterCache(tmp_path / "b")
    put = sender.put({"seed": 1}, tuned())
    content = (put.path / WEIGHTS).read_bytes()
    kept = cache.receive(put.digest, content)
    assert cache.received(put.digest) == kept
    assert (kept.path / WEIGHTS).read_bytes() == content
    assert (kept.digest, kept.steps, kept.loss) == (put.digest, 0, None)


def test_what_is_not_the_adapter_that_was_named_is_refused(tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path)
    with pytest.raises(ProtocolError, match="payload-adapter-file must have digest 'abc', got"):
        cache.receive("abc", b"something")
    content = b"no safetensors"
    with pytest.raises(GeneratorError, match="cannot be read"):
        cache.receive(hashlib.sha256(content).hexdigest(), content)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"unet.conv.lora_B.weight": None},
        {"unet.conv.lora_B.weight": torch.ones(2, 3)},
        {"unet.conv.lora_A.weight": torch.full((1, 2), torch.nan)},
        {
            name: torch.ones(2, 2, 3, 3)
            for name in ("unet.conv.lora_A.weight", "unet.conv.lora_B.weight")
        },
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None]
) -> None:
    state = {key: value for key, value in (tuned().state | change).items() if value is not None}
    save_adapter(tmp_path / "a", state)
    content = (tmp_path / "a" / WEIGHTS).read_bytes()
    with pytest.raises(GeneratorError, match="layer 'conv' must have finite lora_A and lora_B"):
        AdapterCache(tmp_path / "b").receive(hashlib.sha256(content).hexdigest(), content)


def test_what_another_process_has_put_there_meanwhile_stays(tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path)
    first = cache.put({"seed": 1}, tuned())
    written = (first.path / WEIGHTS).stat().st_ino
    cache.put({"seed": 1}, tuned())
    assert (first.path / WEIGHTS).stat().st_ino == written


def test_adapters_of_the_past_go_and_those_in_use_stay(tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path, max_bytes=1)
    old, used, new = (cache.put({"seed": seed}, tuned()) for seed in range(3))
    assert all(each.path.exists() for each in (old, used, new))  # all of this hour
    long_ago = time.time() - 2 * IN_USE_SECONDS
    for each in (old, used):
        os.utime(each.path, (long_ago, long_ago))
    assert cache.find(used.path.name) == used
    cache.put({"seed": 3}, tuned())
    assert not old.path.exists()
    assert used.path.exists() and new.path.exists()
    assert cache.get({"seed": 0}) is None


def test_an_adapter_that_was_removed_while_it_was_read_is_absent(tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path)
    put = cache.put({"seed": 1}, tuned())
    (put.path / WEIGHTS).unlink()
    assert cache.get({"seed": 1}) is None
    again = cache.put({"seed": 1}, tuned())
    assert cache.get({"seed": 1}) == again
