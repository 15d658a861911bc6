from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.data.images import ImageSet
from regl_app.data.source import Source
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.run_generator import RunGenerator
from regl_app.supplement.synthesizer import Synthesizer

Make = Callable[..., Synthesizer]


def quotas(*counts: int) -> np.ndarray:
    return np.array(counts, dtype=np.int64)


def test_a_warm_cache_needs_no_model(
    config: RunConfig,
    real: ImageSet,
    synthesizer: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cold = synthesizer(config, tmp_path)
    adapted = cold.adapt("a", real)
    made = cold.generate(quotas(0, 2, 2), adapted, real)
    probe = cold.probe()
    monkeypatch.setattr(RunGenerator, "foundation", property(lambda self: pytest.fail("loaded")))
    warm = synthesizer(config, tmp_path)
    again = warm.adapt("a", real)
    assert again.cached
    assert not adapted.cached
    assert again.digest == adapted.digest
    reused = warm.generate(quotas(0, 2, 2), again, real)
    assert (reused.generated, reused.reused) == (0, 4)
    assert torch.equal(reused.images.images, made.images.images)
    assert torch.equal(warm.probe().images, probe.images)


def test_same_seed_same_images_in_a_fresh_cache(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path
) -> None:
    results = []
    for cache in ("one", "two"):
        fresh = synthesizer(config, tmp_path / cache)
        adapted = fresh.adapt("a", real)
        images = fresh.generate(quotas(0, 3, 2), adapted, real).images.images
        results.append((adapted.digest, images))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_a_lost_adapter_keeps_its_images(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path
) -> None:
    warm = synthesizer(config, tmp_path)
    first = warm.adapt("a", real)
    warm.generate(quotas(0, 0, 2), first, real)
    shutil.rmtree(tmp_path / "adapters")
    second = warm.adapt("a", real)
    assert warm.generate(quotas(0, 0, 2), second, real).generated == 0


def test_progress_names_what_happens(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, int]] = []
    watched = synthesizer(config, tmp_path, progress=lambda *call: calls.append(call))
    watched.generate(quotas(0, 2, 1), watched.adapt("a", real), real)
    assert ("adapter steps", 3, 3) in calls
    assert calls[-1] == ("images", 3, 3)


def test_an_adapted_client_selects_from_its_own_sequences(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path
) -> None:
    warm = synthesizer(config, tmp_path)
    adapted = warm.adapt("a", real)
    candidates = warm.candidates(quotas(0, 0, 2), adapted, real)
    assert candidates.images.labels.tolist() == [2] * 6
    assert candidates.indices is None
    planned = warm.generate(quotas(0, 0, 2), adapted, real)
    assert torch.equal(candidates.images.images[:2], planned.images.images)


def test_a_frozen_client_selects_from_the_shared_pool(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path
) -> None:
    warm, frozen = synthesizer(config, tmp_path), ClientGenerator.frozen("a")
    candidates = warm.candidates(quotas(0, 0, 2), frozen, real)
    assert candidates.indices is not None
    assert candidates.indices.tolist() == [12, 13, 14, 15, 16, 17]
    assert torch.equal(candidates.images.images, warm.pool(frozen).images.images[12:])


def test_a_source_without_images_says_all_that_is_needed(
    config: RunConfig, synthesizer: Make, tmp_path: Path
) -> None:
    nothing = ImageSet.empty((1, 16, 16))
    concepts = ("the digit zero", "the digit one", "the digit two")
    source = Source("digits", nothing, nothing, ("zero", "one", "two"), concepts)
    short = Synthesizer.of(config, source, "cpu", tmp_path)
    assert short.pool_digest == synthesizer(config, tmp_path).pool_digest
    assert torch.equal(short.probe().images, synthesizer(config, tmp_path).probe().images)


@pytest.mark.parametrize("adapter", ["frozen", "lora"])
def test_another_default_dtype_of_a_notebook_s_changes_no_image(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path, adapter: str
) -> None:
    """What is drawn is stored by a key that says nothing of it."""
    keys = config.updated({"supplement.adapter": adapter})
    wanted = np.array([0, 2, 1])

    def drawn(name: str) -> torch.Tensor:
        own = synthesizer(keys, tmp_path / name)
        return own.generate(wanted, own.adapt("a", real), real).images.images

    expected = drawn("plain")
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(drawn("other"), expected)
    finally:
        torch.set_default_dtype(torch.float32)
