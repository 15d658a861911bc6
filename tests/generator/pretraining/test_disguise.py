from __future__ import annotations

import pytest
import torch

from regl_app.core.errors import ConfigError
from regl_app.generator.pretraining.disguise import DISGUISES, apply_disguise


def picture() -> torch.Tensor:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, 8:24, 14:18] = 255
    return image


def test_inverting_twice_changes_nothing() -> None:
    assert torch.equal(apply_disguise(picture(), "inverted"), 255 - picture())
    assert torch.equal(apply_disguise(picture(), "inverted+inverted"), picture())


@pytest.mark.parametrize("look", [*DISGUISES, "inverted+blurred", "rotated+inverted"])
def test_a_look_keeps_shape_and_type_and_is_the_same_every_time(look: str) -> None:
    found = apply_disguise(picture(), look)
    assert (found.shape, found.dtype) == (picture().shape, torch.uint8)
    assert torch.equal(found, apply_disguise(picture(), look))
    assert not torch.equal(found, picture())


def test_blur_softens_edges_and_rotation_tilts() -> None:
    assert 0 < apply_disguise(picture(), "blurred")[0, 0, 12, 13] < 255
    tilted = apply_disguise(picture(), "rotated")[0, 0]
    assert tilted[9].argmax() != tilted[22].argmax()


def test_steps_are_taken_in_order_and_unknown_ones_named() -> None:
    by_hand = 255 - apply_disguise(picture(), "rotated")
    assert torch.equal(apply_disguise(picture(), "rotated+inverted"), by_hand)
    with pytest.raises(ConfigError, match="look must be of inverted, blurred, rotated"):
        apply_disguise(picture(), "inverted+sepia")
