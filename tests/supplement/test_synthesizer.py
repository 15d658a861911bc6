from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.generator.adapters import load_adapter
from regl_app.generator.sampling import sample
from regl_app.learning.models.build import build_model
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.synthesizer import Synthesizer

CONCEPTS = ("the digit zero", "the digit one", "the digit two")
SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> RunConfig:
    return RunConfig.from_flat(
        {
            "method": "regl",
            "generator.path": str(second_pipeline),
            "generator.steps": 2,
            "lora.steps": 3,
            "probe.per-class": 2,
        }
    )


@pytest.fixture(scope="module")
def real() -> ImageSet:
    images = torch.randint(
        0, 256, (10, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageSet(images, torch.tensor([0] * 8 + [1] * 2))


def make(config: RunConfig, cache: Path, **changes: object) -> Synthesizer:
    arguments = {"seed": 0, "device": "cpu", "cache_dir": cache} | changes
    return Synthesizer(config, CONCEPTS, SHAPE, **arguments)  # type: ignore[arg-type]


def quotas(*counts: int) -> np.ndarray:
    return np.array(counts, dtype=np.int64)


def same_picture(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether pixels agree up to rounding: processors pick their kernels by batch size."""
    return one.shape == other.shape and float((one.int() - other.int()).abs().float().mean()) < 1


def test_a_larger_quota_extends_the_same_sequence(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    synthesizer = make(config, tmp_path)
    client = ClientGenerator.frozen("a")
    first = synthesizer.generate(quotas(0, 2, 3), client, real)
    assert (first.generated, first.reused) == (5, 0)
    assert first.images.labels.tolist() == [1, 1, 2, 2, 2]
    more = synthesizer.generate(quotas(1, 4, 2), client, real)
    assert (more.generated, more.reused) == (3, 4)
    assert torch.equal(more.images.images[1:3], first.images.images[:2])
    assert torch.equal(more.images.images[5:7], first.images.images[2:4])


def test_growing_by_rounds_equals_making_all_at_once(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    client = ClientGenerator.frozen("a")
    slowly = make(config, tmp_path / "slowly")
    for quota in (1, 2, 5):
        grown = slowly.generate(quotas(quota, 0, quota), client, real)
    at_once = make(config, tmp_path / "at-once").generate(quotas(5, 0, 5), client, real)
    assert same_picture(grown.images.images, at_once.images.images)


def test_a_warm_cache_needs_no_model(
    config: RunConfig, real: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = make(config, tmp_path)
    adaptation = cold.adapt("a", real)
    made = cold.generate(quotas(0, 2, 2), adaptation, real)
    probe = cold.probe()
    monkeypatch.setattr(Synthesizer, "foundation", property(lambda self: pytest.fail("loaded")))
    warm = make(config, tmp_path)
    again = warm.adapt("a", real)
    assert again.cached
    assert not adaptation.cached
    assert again.digest == adaptation.digest
    reused = warm.generate(quotas(0, 2, 2), again, real)
    assert (reused.generated, reused.reused) == (0, 4)
    assert torch.equal(reused.images.images, made.images.images)
    assert torch.equal(warm.probe().images, probe.images)


def test_what_was_made_before_a_crash_is_not_made_again(
    config: RunConfig, real: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = config.updated({"generator.batch-size": 2})
    wanted, client = quotas(3, 5, 4), ClientGenerator.frozen("a")
    whole = make(small, tmp_path / "whole").generate(wanted, client, real).images
    calls = itertools.count(1)

    def dies(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return sample(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("regl_app.supplement.synthesizer.sample", dies)
        with pytest.raises(KeyboardInterrupt):
            make(small, tmp_path / "torn").generate(wanted, client, real)
    rest = make(small, tmp_path / "torn").generate(wanted, client, real)
    assert (rest.generated, rest.reused) == (4, 8)
    assert same_picture(rest.images.images, whole.images)


def test_same_seed_same_images_in_a_fresh_cache(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    results = []
    for cache in ("one", "two"):
        synthesizer = make(config, tmp_path / cache)
        adaptation = synthesizer.adapt("a", real)
        made = synthesizer.generate(quotas(0, 3, 2), adaptation, real)
        results.append((adaptation.digest, made.images.images))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_clients_and_seeds_draw_different_images_but_share_the_probe(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    one, other = make(config, tmp_path), make(config, tmp_path, seed=1)
    images = [
        synthesizer.generate(quotas(0, 0, 2), ClientGenerator.frozen(name), real).images.images
        for synthesizer, name in ((one, "a"), (one, "b"), (other, "a"))
    ]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(images[left], images[right])
    assert torch.equal(one.probe().images, other.probe().images)
    assert one.probe().labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_minority_classes_also_start_from_real_pictures(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    adapted = make(config, tmp_path).adapt("a", real)
    with_pictures = make(config, tmp_path).generate(quotas(0, 4, 4), adapted, real).images.images
    text_only = config.updated({"generator.image-conditioning": False})
    without = make(text_only, tmp_path).generate(quotas(0, 4, 4), adapted, real).images.images
    same = [same_picture(a, b) for a, b in zip(with_pictures, without, strict=True)]
    # Half of class 1, of which the client has two images; none of class 2, which it lacks.
    assert same == [True, False, True, False, True, True, True, True]


def test_other_pictures_make_other_images(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    synthesizer = make(config, tmp_path)
    adapted = synthesizer.adapt("a", real)
    made = synthesizer.generate(quotas(0, 2, 0), adapted, real).images.images
    changed = ImageSet(255 - real.images, real.labels)
    other = synthesizer.generate(quotas(0, 2, 0), adapted, changed)
    assert other.generated == 2
    assert not torch.equal(other.images.images[1], made[1])


def test_a_damaged_adapter_is_tuned_again(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    first = make(config, tmp_path).adapt("a", real)
    assert first.path is not None
    for file in first.path.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    second = make(config, tmp_path).adapt("a", real)
    assert not second.cached
    assert second.digest == first.digest


def test_a_lost_adapter_keeps_its_images(config: RunConfig, real: ImageSet, tmp_path: Path) -> None:
    synthesizer = make(config, tmp_path)
    first = synthesizer.adapt("a", real)
    synthesizer.generate(quotas(0, 0, 2), first, real)
    shutil.rmtree(tmp_path / "adapters")
    second = synthesizer.adapt("a", real)
    assert synthesizer.generate(quotas(0, 0, 2), second, real).generated == 0


def test_too_few_images_or_a_frozen_run_stay_frozen(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    assert make(config, tmp_path).adapt("a", real.subset([0, 1])).path is None
    frozen = config.updated({"method": "regl-free"})
    assert make(frozen, tmp_path).adapt("a", real) == ClientGenerator.frozen("a")
    empty = ImageSet.empty(SHAPE)
    made = make(config, tmp_path).generate(quotas(0, 0, 0), ClientGenerator.frozen("a"), empty)
    assert len(made.images) == 0
    assert made.images.shape == SHAPE


def test_progress_names_what_happens(config: RunConfig, real: ImageSet, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    synthesizer = make(config, tmp_path, progress=lambda *at: seen.append(at))
    synthesizer.generate(quotas(0, 2, 1), synthesizer.adapt("a", real), real)
    assert ("adapter steps", 3, 3) in seen
    assert seen[-1] == ("images", 3, 3)


def test_other_prompts_have_another_prior(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    preserving = config.updated({"lora.prior-weight": 1.0})
    for concepts in (CONCEPTS, ("a shirt", "a shoe", "a bag")):
        synthesizer = Synthesizer(
            preserving, concepts, SHAPE, seed=0, device="cpu", cache_dir=tmp_path
        )
        synthesizer.adapt("a", real)
    assert len(list((tmp_path / "pools").glob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("change", "preserving", "same"),
    [
        ({"generator.image-size": 24}, False, False),
        ({"generator.guidance": 5.0}, False, True),
        ({"generator.guidance": 5.0}, True, False),
    ],
)
def test_an_adapter_is_found_again_only_by_what_it_was_tuned_from(
    config: RunConfig,
    real: ImageSet,
    tmp_path: Path,
    change: dict[str, object],
    preserving: bool,
    same: bool,
) -> None:
    first = config.updated({"lora.prior-weight": float(preserving)})
    assert not make(first, tmp_path).adapt("a", real).cached
    assert make(first.updated(change), tmp_path).adapt("a", real).cached == same  # type: ignore[arg-type]


def judges(seeds: tuple[int, int] = (0, 1)) -> ModelPair:
    models = [build_model(ModelConfig(width=4), len(CONCEPTS), 1, 16, seed) for seed in seeds]
    return ModelPair(models[0], models[1], torch.device("cpu"))


def with_keys(config: RunConfig, **changes: Scalar) -> RunConfig:
    flat = {"supplement.cap": 4, "pool.per-class": 6, "dpo.steps": 2, "dpo.batch-size": 2}
    return config.updated(flat | {key.replace("__", "."): v for key, v in changes.items()})


def test_what_all_workers_want_at_once_is_made_once(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        original = getattr(module, name)

        def call(*arguments: object, **named: object) -> object:
            made.append(name)
            return original(*arguments, **named)

        return call

    module = sys.modules[Synthesizer.__module__]
    for name in ("sample", "sample_pool"):
        monkeypatch.setattr(module, name, counted(name))
    frozen = with_keys(config, supplement__adapter="frozen")
    with ThreadPoolExecutor(2) as workers:
        for work in (
            lambda _: make(frozen, tmp_path).pool(ClientGenerator.frozen("a")).images.images,
            lambda _: make(frozen, tmp_path).probe().images,
        ):
            one, other = workers.map(work, "ab")
            assert torch.equal(one, other)
    assert sorted(made) == ["sample", "sample_pool"]


def test_all_clients_select_from_the_frozen_generators_one_pool(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    frozen = with_keys(config, supplement__adapter="frozen")
    found = [
        make(frozen, tmp_path, seed=seed).candidates(
            quotas(0, 1, 4), ClientGenerator.frozen(name), real
        )
        for seed, name in ((0, "a"), (1, "b"))
    ]
    assert found[0].images.labels.tolist() == [1] * 6 + [2] * 6
    assert torch.equal(found[0].images.images, found[1].images.images)
    assert (found[0].generated, found[1].generated, found[1].reused) == (18, 0, 12)
    one, other = (
        make(frozen.updated({"pool.seed": seed}), tmp_path).pool(ClientGenerator.frozen("a"))
        for seed in (0, 1)
    )
    assert not torch.equal(one.latents, other.latents)


def test_an_adapted_client_selects_from_its_own_sequences(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    synthesizer = make(with_keys(config), tmp_path)
    adaptation = synthesizer.adapt("a", real)
    found = synthesizer.candidates(quotas(0, 0, 2), adaptation, real)
    assert found.images.labels.tolist() == [2] * 6
    planned = synthesizer.generate(quotas(0, 0, 2), adaptation, real)
    assert torch.equal(found.images.images[:2], planned.images.images)


@pytest.mark.parametrize("start", ["frozen", "lora"])
def test_a_preferred_adapter_is_tuned_once_and_found_by_name(
    config: RunConfig, real: ImageSet, tmp_path: Path, start: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tuned = with_keys(config, supplement__adapter="dpo", dpo__start=start)
    synthesizer = make(tuned, tmp_path)
    base = synthesizer.adapt("a", real)
    assert (base.path is None) == (start == "frozen")
    preferred = synthesizer.prefer(base, judges())
    assert preferred.steps == 2
    assert preferred.facts["pairs"] == 3 * max(1, int(0.25 * 6))
    assert preferred.facts["reward_margin"] > 0
    assert preferred.path is not None
    assert preferred.digest != base.digest
    assert synthesizer.prefer(base, judges((1, 0))).digest != preferred.digest

    monkeypatch.setattr(Synthesizer, "foundation", property(lambda self: pytest.fail("loaded")))
    warm = make(tuned, tmp_path)
    again = warm.prefer(warm.adapt("a", real), judges())
    assert again.cached
    assert again.facts == preferred.facts
    found = warm.preferred("a", preferred.path.name)
    assert found is not None
    assert found.digest == preferred.digest
    assert warm.preferred("a", "") is None
    assert warm.preferred("a", "../" + preferred.path.name) is None
    assert warm.preferred("a", "0" * 40) is None


def test_preferences_on_top_of_lora_keep_the_lora(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    synthesizer = make(with_keys(config, supplement__adapter="dpo", dpo__start="lora"), tmp_path)
    base = synthesizer.adapt("a", real)
    preferred = synthesizer.prefer(base, judges())
    assert base.path is not None
    assert preferred.path is not None
    below, both = load_adapter(base.path), load_adapter(preferred.path)
    assert both.keys() == below.keys()
    for name, value in below.items():
        axis = 0 if ".lora_A." in name else 1
        assert torch.equal(both[name].narrow(axis, 0, value.shape[axis]), value)


def test_judges_steer_the_sampler_as_far_as_they_are_told(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    def made(strength: float, models: ModelPair | None) -> torch.Tensor:
        keys = with_keys(
            config,
            supplement__adapter="guidance",
            steering__strength=strength,
            steering__limit=10.0,
        )
        guided = ClientGenerator.frozen("a", models)
        return make(keys, tmp_path).generate(quotas(0, 2, 2), guided, real).images.images

    plain, steered = made(50.0, None), made(50.0, judges())
    assert torch.equal(made(0.0, judges()), plain)
    assert not torch.equal(steered, plain)
    assert torch.equal(made(50.0, judges()), steered)
    assert not torch.equal(made(50.0, judges((1, 0))), steered)
