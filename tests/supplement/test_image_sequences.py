from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample
from regl_app.supplement import image_sequences, own_prompts
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.image_sequences import ImageSequences
from regl_app.supplement.image_store import SupplementStore
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.own_pictures import OwnPictures
from regl_app.supplement.run_generator import RunGenerator
from regl_app.supplement.synthesizer import Synthesizer

FROZEN = ClientGenerator.frozen("a")
Make = Callable[..., ImageSequences]


@pytest.fixture
def make(run_generator: Callable[..., RunGenerator]) -> Make:
    def sequences(config: RunConfig, folder: Path, **changes: object) -> ImageSequences:
        generator = run_generator(config, **changes)
        own = OwnPictures(generator, PictureStore(folder / "pictures"))
        return ImageSequences(generator, SupplementStore(folder / "images"), own)

    return sequences


def quotas(*counts: int) -> np.ndarray:
    return np.array(counts, dtype=np.int64)


def same_picture(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether pixels agree up to rounding: processors pick their kernels by batch size."""
    return one.shape == other.shape and float((one.int() - other.int()).abs().float().mean()) < 1


def test_a_larger_quota_extends_the_same_sequence(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    sequences = make(config, tmp_path)
    first = sequences.generate(quotas(0, 2, 3), FROZEN, real)
    assert (first.generated, first.reused) == (5, 0)
    assert first.images.labels.tolist() == [1, 1, 2, 2, 2]
    more = sequences.generate(quotas(1, 4, 2), FROZEN, real)
    assert (more.generated, more.reused) == (3, 4)
    assert torch.equal(more.images.images[1:3], first.images.images[:2])
    assert torch.equal(more.images.images[5:7], first.images.images[2:4])


def test_growing_by_rounds_equals_making_all_at_once(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    slowly = make(config, tmp_path / "slowly")
    for quota in (1, 2, 5):
        grown = slowly.generate(quotas(quota, 0, quota), FROZEN, real)
    at_once = make(config, tmp_path / "at-once").generate(quotas(5, 0, 5), FROZEN, real)
    assert same_picture(grown.images.images, at_once.images.images)


def test_an_adapter_is_merged_once_for_all_that_is_missing(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, used = Foundation.adapter, []

    def adapter(self: Foundation, folder: Path | None) -> AbstractContextManager[None]:
        used.append(folder)
        return plain(self, folder)

    monkeypatch.setattr(Foundation, "adapter", adapter)
    sequences = make(config.updated({"generator.batch-size": 1}), tmp_path)
    for _ in range(2):  # what is stored needs none
        sequences.generate(quotas(3, 0, 3), FROZEN, real)
        assert used == [None]


def test_no_quota_makes_no_image(config: RunConfig, make: Make, tmp_path: Path) -> None:
    empty = ImageSet.empty((1, 16, 16))
    result = make(config, tmp_path).generate(quotas(0, 0, 0), FROZEN, empty)
    assert len(result.images) == 0
    assert result.images.shape == (1, 16, 16)


def test_what_was_made_before_a_crash_is_not_made_again(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = config.updated({"generator.batch-size": 2})
    wanted = quotas(3, 5, 4)
    whole = make(small, tmp_path / "whole").generate(wanted, FROZEN, real).images
    calls = itertools.count(1)

    def dies(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return sample(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(image_sequences, "sample", dies)
        with pytest.raises(KeyboardInterrupt):
            make(small, tmp_path / "torn").generate(wanted, FROZEN, real)
    rest = make(small, tmp_path / "torn").generate(wanted, FROZEN, real)
    assert (rest.generated, rest.reused) == (4, 8)
    assert same_picture(rest.images.images, whole.images)


def test_clients_and_seeds_draw_different_images_but_share_the_probe(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    one, other = make(config, tmp_path), make(config, tmp_path, seed=1)
    images = [
        sequences.generate(quotas(0, 0, 2), ClientGenerator.frozen(name), real).images.images
        for sequences, name in ((one, "a"), (one, "b"), (other, "a"))
    ]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(images[left], images[right])
    assert torch.equal(one.probe().images, other.probe().images)
    assert one.probe().labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_probe_that_all_workers_want_at_once_is_made_once(
    config: RunConfig, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append("sample")
        return sample(*arguments, **options)

    monkeypatch.setattr(image_sequences, "sample", counted)
    with ThreadPoolExecutor(2) as workers:
        one, other = workers.map(lambda _: make(config, tmp_path).probe().images, "ab")
    assert torch.equal(one, other)
    assert calls == ["sample"]


def test_minority_classes_also_start_from_real_pictures(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    synthesizer: Callable[..., Synthesizer],
    tmp_path: Path,
) -> None:
    adapted = synthesizer(config, tmp_path).adapt("a", real)
    with_pictures = make(config, tmp_path).generate(quotas(0, 4, 4), adapted, real)
    text_only = config.updated({"generator.image-conditioning": False})
    without = make(text_only, tmp_path).generate(quotas(0, 4, 4), adapted, real)
    same = [
        same_picture(one, other)
        for one, other in zip(with_pictures.images.images, without.images.images, strict=True)
    ]
    # Half of class 1, of which the client has two images; none of class 2, which it lacks.
    assert same == [True, False, True, False, True, True, True, True]
    # Only who has no picture to start from can make them again.
    assert with_pictures.sequence is None
    assert without.sequence is not None
    assert without.sequence.tolist() == [0, 4, 4]


def test_other_pictures_make_other_images(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    synthesizer: Callable[..., Synthesizer],
    tmp_path: Path,
) -> None:
    adapted = synthesizer(config, tmp_path).adapt("a", real)
    sequences = make(config, tmp_path)
    images = sequences.generate(quotas(0, 2, 0), adapted, real).images.images
    changed = ImageSet(255 - real.images, real.labels)
    other = sequences.generate(quotas(0, 2, 0), adapted, changed)
    assert other.generated == 2
    assert not torch.equal(other.images.images[1], images[1])


def test_a_model_pair_steers_the_sampler_as_far_as_configured(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    model_pair: Callable[..., ModelPair],
    tmp_path: Path,
) -> None:
    def images(strength: float, pair: ModelPair | None) -> torch.Tensor:
        steering = {"steering.strength": strength, "steering.limit": 10.0}
        keys = config.updated({"supplement.adapter": "guidance", **steering})
        guided = ClientGenerator.frozen("a", pair)
        return make(keys, tmp_path).generate(quotas(0, 2, 2), guided, real).images.images

    plain, steered = images(50.0, None), images(50.0, model_pair())
    assert torch.equal(images(0.0, model_pair()), plain)
    assert not torch.equal(steered, plain)
    assert torch.equal(images(50.0, model_pair()), steered)
    assert not torch.equal(images(50.0, model_pair((1, 0))), steered)


@pytest.fixture
def shown_by(
    config: RunConfig,
    second_pipeline: Path,
    save_ip_adapter: Callable[..., Path],
    save_clip: Callable[..., Path],
    tmp_path: Path,
) -> RunConfig:
    """Return a run whose clients' pictures are shown to its generator by an IP-Adapter."""
    keys = {
        "generator.image-encoder": str(save_clip(tmp_path / "clip")),
        "generator.ip-adapter": str(save_ip_adapter(second_pipeline, tmp_path)),
        "generator.image-conditioning": False,
    }
    return config.updated(keys)


def test_an_ip_adapter_shows_a_clients_pictures_with_an_adapter_and_without(
    config: RunConfig, shown_by: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    plain = make(config, tmp_path / "plain").generate(quotas(1, 1, 2), FROZEN, real)
    sequences = make(shown_by, tmp_path / "shown")
    after = sequences.generate(quotas(1, 1, 2), FROZEN, real)
    assert plain.sequence is not None and after.sequence is None  # nobody else has the pictures
    assert not any(map(same_picture, plain.images.images, after.images.images))
    again = sequences.generate(quotas(1, 2, 3), FROZEN, real)
    assert (again.generated, again.reused) == (2, 4)
    assert torch.equal(again.images.images[[0, 1, 3, 4]], after.images.images)
    whole = make(shown_by, tmp_path / "whole").generate(quotas(1, 2, 3), FROZEN, real)
    assert all(map(same_picture, whole.images.images, again.images.images))
    # Other pictures are another sequence; none leave the plain one, and so does the probe.
    others = ImageSet(255 - real.pixels[:], real.labels)
    assert sequences.generate(quotas(0, 0, 1), FROZEN, others).reused == 0
    nothing = sequences.generate(quotas(1, 1, 2), FROZEN, real.subset([]))
    assert torch.equal(nothing.images.images, plain.images.images)
    assert torch.equal(sequences.probe().images, make(config, tmp_path / "p").probe().images)


def test_what_shows_pictures_and_how_much_is_part_of_the_name_of_what_is_drawn(
    shown_by: RunConfig,
    real: ImageSet,
    make: Make,
    save_clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    def made(config: RunConfig) -> tuple[int, torch.Tensor]:
        result = make(config, tmp_path / "one").generate(quotas(0, 0, 1), FROZEN, real)
        return result.generated, result.images.images

    assert made(shown_by)[0] == 1
    assert made(shown_by)[0] == 0
    louder = shown_by.updated({"generator.ip-adapter-scale": 1.5})
    assert made(louder)[0] == 1 and not torch.equal(made(louder)[1], made(shown_by)[1])
    file = Path(shown_by.generator.ip_adapter)
    weights = load_file(file)
    save_file({name: value * 2 for name, value in weights.items()}, file)
    assert made(shown_by)[0] == 1
    unfit = shown_by.updated({"generator.image-encoder": str(tmp_path / "other")})
    save_clip(tmp_path / "other", features=9)
    with pytest.raises(GeneratorError, match="is shown 8 numbers a picture"):
        made(unfit)


def test_pictures_are_read_once_for_all_that_a_client_draws_at_a_time(
    shown_by: RunConfig,
    real: ImageSet,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = []
    original = own_prompts.read_pictures

    def counted(foundation: Any, pictures: Any, *arguments: Any) -> torch.Tensor:
        read.append(len(pictures))
        return original(foundation, pictures, *arguments)

    monkeypatch.setattr(own_prompts, "read_pictures", counted)
    many = ImageSet(real.pixels[:].repeat(5, 1, 1, 1), real.labels.repeat(5))
    portioned = shown_by.updated({"generator.batch-size": 1})
    make(portioned, tmp_path / "many").generate(quotas(2, 2, 1), FROZEN, many)
    assert read == [32 + 10]  # of a class of forty, and of one of ten
    make(portioned, tmp_path / "many").generate(quotas(2, 2, 1), FROZEN, many)
    assert len(read) == 1  # all is in the store
