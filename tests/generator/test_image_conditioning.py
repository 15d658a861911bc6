from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.data.resize import fit
from regl_app.generator.image_conditioning import start_position, takes_image


def test_fit_averages_what_it_shrinks() -> None:
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    images[..., ::2] = 200  # stripes finer than the target: antialiasing makes them grey
    shrunk = fit(images, (1, 2, 2))
    assert shrunk.shape == (1, 1, 2, 2)
    assert ((shrunk > 60) & (shrunk < 140)).all()


def test_fit_weighs_colours_by_luma_and_repeats_grey() -> None:
    green = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    green[:, 1] = 255
    assert fit(green, (1, 2, 2)).unique().tolist() == [150]
    grey = torch.full((2, 1, 2, 2), 9, dtype=torch.uint8)
    assert fit(grey, (3, 2, 2)).shape == (2, 3, 2, 2)
    assert fit(grey[:0], (3, 5, 5)).shape == (0, 3, 5, 5)


@given(share=st.floats(0, 1), count=st.integers(1, 200))
def test_share_of_pictures_is_kept_in_every_prefix(share: float, count: int) -> None:
    taken = sum(takes_image(index, share) for index in range(count))
    assert taken == int(count * share)


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_pictures_are_used_in_turn(share: float) -> None:
    places = [start_position(i, share, 3) for i in range(60) if takes_image(i, share)]
    assert places[:6] == [0, 1, 2, 0, 1, 2]
