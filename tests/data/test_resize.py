from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.config.sections import FitRule
from regl_app.data.resize import own_side, to_square

RULES: tuple[FitRule, ...] = ("crop", "pad", "stretch")


def wide() -> torch.Tensor:
    """Return a picture of 12 x 4: a third at either end is 90, the middle 200."""
    image = torch.full((1, 1, 4, 12), 90, dtype=torch.uint8)
    image[..., 4:8] = 200
    return image


def test_crop_keeps_the_middle() -> None:
    assert (to_square(wide(), 4, "crop") == 200).all()
    assert torch.equal(to_square(wide(), 4), to_square(wide(), 4, "crop"))


def test_pad_keeps_everything_between_black() -> None:
    square = to_square(wide(), 12, "pad")
    assert torch.equal(square[:, :, 4:8], wide())
    assert square[:, :, :4].sum() == square[:, :, 8:].sum() == 0
    tall = to_square(wide().transpose(2, 3), 12, "pad")
    assert torch.equal(tall, square.transpose(2, 3))


def test_stretch_keeps_everything_without_proportions() -> None:
    square = to_square(wide(), 12, "stretch")
    assert (square[..., :3] == 90).all() and (square[..., 5:7] == 200).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_square_is_the_same_by_every_rule(rule: FitRule) -> None:
    image = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    assert torch.equal(to_square(image, 8, rule), to_square(image, 8))
    assert torch.equal(to_square(image, 20, rule), image)


def test_a_long_strip_makes_no_huge_square() -> None:
    strip = torch.full((1, 1, 1, 200_000), 255, dtype=torch.uint8)
    square = to_square(strip, 8, "pad")
    assert (square.amax((0, 1, 3)) > 0).tolist() == [False] * 3 + [True] + [False] * 4


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 24),
    rule=st.sampled_from(RULES),
)
def test_every_picture_becomes_a_square_without_new_values(
    height: int, width: int, size: int, rule: FitRule
) -> None:
    square = to_square(torch.full((1, 3, height, width), 77, dtype=torch.uint8), size, rule)
    assert square.shape == (1, 3, size, size) and square.dtype == torch.uint8
    assert set(square.unique().tolist()) <= ({0, 77} if rule == "pad" else {77})
    assert (square == 77).any()
    assert min(height, width) <= own_side(height, width, rule) <= max(height, width)
