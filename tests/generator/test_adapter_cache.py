from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from regl_app.errors import GeneratorError, ProtocolError
from regl_app.generator.adapter_cache import AdapterCache
from regl_app.generator.adapters import WEIGHTS
from regl_app.generator.lora import TunedAdapter


def tuned() -> TunedAdapter:
    state = {"conv.lora_A.weight": torch.ones(1, 2), "conv.lora_B.weight": torch.ones(2, 1)}
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
    with pytest.raises(ProtocolError, match="parcel-adapter-file must have digest 'abc', got"):
        cache.receive("abc", b"something")
    content = b"no safetensors"
    with pytest.raises(GeneratorError, match="cannot be read"):
        cache.receive(hashlib.sha256(content).hexdigest(), content)
    assert not list(tmp_path.iterdir())
