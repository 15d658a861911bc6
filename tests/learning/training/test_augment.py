"""Random shifts move images, repeat borders and follow their generator."""

from __future__ import annotations

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.choices import AUGMENTATIONS
from regl_app.config.sections import TrainConfig
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar
from regl_app.learning.training.augment import make_augment, random_shift


def _images() -> torch.Tensor:
    return torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8)


def test_every_result_is_a_shift_with_repeated_border() -> None:
    images = _images()
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    shifted = random_shift(images, 2, torch.Generator().manual_seed(0))
    for index in range(2):
        candidates = [
            padded[index, :, top : top + 8, left : left + 8]
            for top in range(5)
            for left in range(5)
        ]
        assert any(torch.equal(shifted[index], candidate) for candidate in candidates)


def test_all_shifts_occur() -> None:
    images = torch.zeros(400, 1, 8, 8)
    images[:, 0, 4, 4] = 1
    shifted = random_shift(images, 1, torch.Generator().manual_seed(0))
    rows, columns = shifted[:, 0].nonzero()[:, 1], shifted[:, 0].nonzero()[:, 2]
    assert set(rows.tolist()) == set(columns.tolist()) == {3, 4, 5}


def test_generator_decides() -> None:
    one, same, other = (
        random_shift(_images(), 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 7)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def _noise(count: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (count, channels, 12, 12)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


NAMED = [name for name in AUGMENTATIONS if name != "shift"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_varies_images_and_keeps_their_form(name: str, channels: int) -> None:
    images = _noise(16, channels)
    varied = make_augment([name], 12, 0)(images, 1)
    assert (varied.shape, varied.dtype) == (images.shape, torch.uint8)
    assert not torch.equal(varied, images)


@pytest.mark.parametrize("name", NAMED)
def test_images_of_a_batch_are_varied_apart_by_seed_and_step(name: str) -> None:
    same = _noise(1, 3).expand(16, -1, -1, -1)
    first = make_augment([name], 12, 0)(same, 1)
    assert len(first.flatten(1).unique(dim=0)) > 1  # not one draw for the batch
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = make_augment([name], 12, 0)
    again(same, 7)
    assert torch.equal(again(same, 1), first)  # whatever was drawn before
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(again(same, 2), first)
    assert not torch.equal(make_augment([name], 12, 1)(same, 1), first)


def test_flips_are_flips_of_about_half() -> None:
    images = _noise(64, 3)
    varied = make_augment(["flip"], 12, 0)(images, 1)
    kept = [torch.equal(a, b) for a, b in zip(varied, images, strict=True)]
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(varied, images, strict=True)]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 16 < sum(turned) < 48


def test_colour_leaves_gray_pictures_gray() -> None:
    gray = _noise(8, 1).expand(-1, 3, -1, -1)
    for image in make_augment(["colour"], 12, 0)(_noise(8, 1), 1):
        assert image.shape[0] == 1
    varied = make_augment(["colour"], 12, 0)(gray, 1).short()
    assert (varied[:, 0] - varied[:, 1]).abs().max() <= 1  # rounding


def test_names_are_read_in_their_order() -> None:
    assert TrainConfig(augment=True).augmentations == ("shift",)
    assert TrainConfig(augment=False).augmentations == ()
    assert TrainConfig(augment="").augmentations == ()
    assert TrainConfig(augment="crop, flip").augmentations == ("crop", "flip")


@pytest.mark.parametrize("value", ["flop", "flip,,crop", "flip,flip", 1])
def test_other_words_are_refused_with_what_there_is(value: Scalar) -> None:
    with pytest.raises(ConfigError, match=r"train\.augment") as refused:
        RunConfig.from_flat({"train.augment": value})
    assert f"got {value!r}" in str(refused.value) or "got 'flip' twice" in str(refused.value)
