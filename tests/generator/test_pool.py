from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app.config import GeneratorConfig
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import Pool, frozen_pool


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = GeneratorConfig(path=str(second_pipeline), steps=2)
    return Foundation.load(config, ("the digit zero", "the digit one", "the digit two"))


def make(foundation: Foundation, path: Path | None = None, stream: int = 7) -> Pool:
    config = GeneratorConfig(steps=2)
    return frozen_pool(foundation, config, per_class=2, stream=stream, path=path)


def test_a_pool_is_shared_and_made_anew_when_damaged(
    foundation: Foundation, tmp_path: Path
) -> None:
    path = tmp_path / "pool.safetensors"
    pool = make(foundation, path)
    assert pool.latents.shape == (6, 4, 12, 12)
    assert pool.labels.tolist() == [0, 0, 1, 1, 2, 2]
    content = path.read_bytes()
    flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    for damaged in (content, content[:50], flipped, b""):
        path.write_bytes(damaged)
        assert torch.equal(make(foundation, path).latents, pool.latents)
        assert path.read_bytes() == content
    assert torch.equal(make(foundation).latents, pool.latents)
    assert not torch.equal(make(foundation, stream=8).latents, pool.latents)
