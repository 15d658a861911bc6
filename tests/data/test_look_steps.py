"""Each step of a look, as clients and the corpus of `regl pretrain` are seen in it."""

from __future__ import annotations

import math

import pytest
import torch

from regl_app.config.looks import LOOK_STEPS, PLAIN
from regl_app.data.looks import STEPS, Look


def seen(images: torch.Tensor, look: str) -> torch.Tensor:
    return Look.parse(look).of(images)


def picture() -> torch.Tensor:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, 8:24, 12:16] = 255  # left of the middle
    return image


def test_inverting_twice_changes_nothing() -> None:
    assert torch.equal(seen(picture(), "inverted"), 255 - picture())
    assert torch.equal(seen(picture(), "inverted+inverted"), picture())


@pytest.mark.parametrize("look", [*STEPS, "inverted+blurred", "shrunk+outlined"])
def test_a_look_keeps_shape_and_type_and_is_the_same_every_time(look: str) -> None:
    found = seen(picture(), look)
    assert (found.shape, found.dtype) == (picture().shape, torch.uint8)
    assert torch.equal(found, seen(picture(), look))
    assert not torch.equal(found, picture())


def test_blur_softens_edges_and_rotation_tilts() -> None:
    assert 0 < seen(picture(), "blurred")[0, 0, 12, 11] < 255
    tilted = seen(picture(), "rotated")[0, 0]
    assert tilted[9].argmax() != tilted[22].argmax()


def test_shrinking_leaves_a_frame_and_shearing_leans() -> None:
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    small = seen(white, "shrunk")[0, 0]
    assert small.sum() == 24 * 24 * 255
    assert small[4:28, 4:28].min() == 255
    assert seen(white[..., :28, :28], "shrunk")[0, 0].sum() == 21 * 21 * 255
    leaning = seen(picture(), "sheared")[0, 0]
    places = torch.arange(32.0)
    middles = [float((leaning[row] * places).sum() / leaning[row].sum()) for row in (9, 22)]
    lean = abs(middles[0] - middles[1])
    assert lean == pytest.approx(13 * math.tan(math.radians(20)), abs=0.3)


def test_mirroring_twice_changes_nothing() -> None:
    image = picture()
    image[..., :4] = 100
    assert torch.equal(seen(image, "mirrored"), image.flip(-1))
    assert torch.equal(seen(image, "mirrored+mirrored"), image)


def test_an_outline_is_bright_at_edges_only_whatever_the_ground() -> None:
    outline = seen(picture(), "outlined")
    assert outline[0, 0, 15, 11] == outline[0, 0, 15, 15] == 255
    assert outline[0, 0, 15, 12:15].sum() == outline[0, 0, 15, :11].sum() == 0
    assert torch.equal(outline, seen(picture(), "inverted+outlined"))


def test_steps_are_taken_in_order() -> None:
    by_hand = 255 - seen(picture(), "rotated")
    assert torch.equal(seen(picture(), "rotated+inverted"), by_hand)


def test_what_a_key_may_name_is_what_can_be_done() -> None:
    assert tuple(LOOK_STEPS) == (PLAIN, *STEPS)
    assert not Look.parse("plain+plain").changes and Look.parse("plain+dimmed:1").changes
