from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.disk_cache import GIGABYTE
from regl_app.generator.pool import sample_pool
from regl_app.supplement import pools
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.pools import Pools
from regl_app.supplement.run_generator import RunGenerator

FROZEN = ClientGenerator.frozen("a")
Make = Callable[..., Pools]


@pytest.fixture
def make(run_generator: Callable[..., RunGenerator], tmp_path: Path) -> Make:
    return lambda config, **changes: Pools(run_generator(config, **changes), tmp_path, GIGABYTE)


def test_all_clients_select_from_the_frozen_generators_one_pool(
    config: RunConfig, make: Make
) -> None:
    one, other = (make(config, seed=seed).candidates(np.array([0, 1, 4])) for seed in (0, 1))
    assert one.images.labels.tolist() == [1] * 6 + [2] * 6
    assert torch.equal(one.images.images, other.images.images)
    assert (one.generated, other.generated, other.reused) == (18, 0, 12)
    whole = make(config).pool(FROZEN).images
    assert one.indices is not None
    assert torch.equal(whole.subset(one.indices).images, one.images.images)


def test_another_pool_seed_makes_another_pool(config: RunConfig, make: Make) -> None:
    one, other = (make(config.updated({"pool.seed": seed})) for seed in (0, 1))
    assert one.digest != other.digest
    assert not torch.equal(one.pool(FROZEN).latents, other.pool(FROZEN).latents)


def test_the_digest_is_the_name_of_the_shared_pools_file(
    config: RunConfig, make: Make, tmp_path: Path
) -> None:
    pool = make(config).pool(FROZEN)
    assert [path.stem for path in tmp_path.glob("*.safetensors")] == [make(config).digest]
    assert pool.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_a_pool_for_a_prior_has_a_stream_and_a_size_of_its_own(
    config: RunConfig, make: Make, tmp_path: Path
) -> None:
    prior = make(config).frozen(7, 2)
    assert prior.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(make(config).frozen(7, 2).latents, prior.latents)
    assert not torch.equal(make(config).frozen(8, 2).latents, prior.latents)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_damaged_pool_is_made_again(config: RunConfig, make: Make, tmp_path: Path) -> None:
    pool = make(config).pool(FROZEN)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-20])
    assert torch.equal(make(config).pool(FROZEN).latents, pool.latents)


def test_a_pool_that_all_workers_want_at_once_is_made_once(
    config: RunConfig, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(*arguments: object, **options: object) -> object:
        calls.append("sample_pool")
        return sample_pool(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pools, "sample_pool", counted)
    with ThreadPoolExecutor(2) as workers:
        one, other = workers.map(lambda _: make(config).pool(FROZEN).images.images, "ab")
    assert torch.equal(one, other)
    assert calls == ["sample_pool"]
