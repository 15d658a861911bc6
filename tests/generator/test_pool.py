from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.data.images import to_uint8
from regl_app.data.resize import fit
from regl_app.generator import pool
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import Pool, load_pool, sample_pool


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = GeneratorConfig(path=str(second_pipeline), steps=2)
    return Foundation.load(config, ("the digit zero", "the digit one", "the digit two"))


def make(foundation: Foundation, path: Path, stream: int = 7) -> Pool:
    config = GeneratorConfig(steps=2)
    return sample_pool(foundation, config, (1, 16, 16), per_class=2, stream=stream, path=path)


def test_a_pool_holds_every_class_alike(foundation: Foundation, tmp_path: Path) -> None:
    made = make(foundation, tmp_path / "pool")
    assert made.latents.shape == (6, 4, 12, 12)
    assert made.images.images.shape == (6, 1, 16, 16)
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(make(foundation, tmp_path / "again").latents, made.latents)
    assert not torch.equal(make(foundation, tmp_path / "other", stream=8).latents, made.latents)


def test_its_images_are_what_its_latents_show(foundation: Foundation, tmp_path: Path) -> None:
    made = make(foundation, tmp_path / "pool")
    with torch.no_grad():
        decoded = fit(to_uint8(foundation.decode(made.latents)), (1, 16, 16))
    assert torch.equal(decoded, made.images.images)


def test_in_which_portions_it_is_made_changes_nothing(
    foundation: Foundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    def made(name: str) -> Pool:
        config = GeneratorConfig(steps=2, batch_size=2)
        return sample_pool(
            foundation,
            config,
            (1, 16, 16),
            per_class=3,
            stream=7,
            path=tmp_path / name,
            progress=lambda done, total: told.append((done, total)),
        )

    portions = made("portions")
    assert told == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    monkeypatch.setattr(pool, "_DECODED_BATCHES", 99)
    whole = made("whole")
    assert torch.equal(portions.latents, whole.latents)
    assert torch.equal(portions.images.images, whole.images.images)


def test_a_stored_pool_is_read_whole_or_not_at_all(foundation: Foundation, tmp_path: Path) -> None:
    path = tmp_path / "pool.safetensors"
    assert load_pool(path, 3, 2) is None
    made = make(foundation, path)
    held = load_pool(path, 3, 2)
    assert held is not None
    assert torch.equal(held.latents, made.latents)
    assert torch.equal(held.images.images, made.images.images)
    assert torch.equal(held.labels, made.labels)
    assert load_pool(path, 3, 3) is None
    os.utime(path, (1, 1))
    load_pool(path, 3, 2)
    assert path.stat().st_mtime > 1  # used: others are evicted before it
    content = path.read_bytes()
    for damaged in (content[:50], content[:-3] + bytes([content[-3] ^ 1]) + content[-2:], b""):
        path.write_bytes(damaged)
        assert load_pool(path, 3, 2) is None


def test_only_lacking_classes_are_kept(foundation: Foundation, tmp_path: Path) -> None:
    part = make(foundation, tmp_path / "pool").lacking(np.array([3, 0, 1]))
    assert part.labels.tolist() == [1, 1]
    assert part.latents.shape[0] == 2
