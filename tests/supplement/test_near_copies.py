from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.supplement.near_copies import (
    CHANCE,
    LEAST_HELD_OUT,
    CopyTest,
    near_copies,
    thumbnails,
)

MANY = 1000


def _line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def _drawn(count: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 12, generator=random, dtype=torch.float64)


def _none(like: torch.Tensor) -> torch.Tensor:
    return like[:0]


def test_golden_limit() -> None:
    train = _line(*range(20))  # each is 1 from its nearest other one
    test = CopyTest.of(train, _none(train), MANY)
    assert test is not None
    assert test.limit == 1.0  # the second of 20
    found = near_copies(_line(0.4, -2.0, 20.0, 19.5), [test])
    assert found.tolist() == [True, False, False, True]


def test_golden_limit_with_held_out_images() -> None:
    train, held_out = _line(*range(20)), _line(0.1, *[100.0] * 18)
    test = CopyTest.of(train, held_out, MANY)
    assert test is not None
    assert test.limit == pytest.approx(1.0)  # the fourth of 39: 0.1 comes before
    few = CopyTest.of(train[:2], _line(0.1, 0.3, *[100.0] * 15), MANY)
    assert few is not None
    assert few.limit == pytest.approx(0.3)  # the second of 19


@pytest.mark.parametrize("count", [0, 1, 2, LEAST_HELD_OUT - 1])
def test_too_few_real_images_set_no_limit(count: int) -> None:
    train = _drawn(count, 0)
    assert CopyTest.of(train, _none(train), MANY) is None


def test_as_many_as_are_needed_do() -> None:
    train = _drawn(LEAST_HELD_OUT, 0)
    assert CopyTest.of(train, _none(train), MANY) is not None


@pytest.mark.parametrize(("train", "held_out"), [(19, 0), (60, 0), (40, 19), (200, 50)])
def test_new_draws_are_near_copies_as_often_as_chance_has_it(train: int, held_out: int) -> None:
    count = train + held_out + 1
    shares, nominal = [], 2 * np.floor(CHANCE * count / 2 + 1e-9) / count
    for seed in range(200):
        known = _drawn(train, seed)
        test = CopyTest.of(known, _drawn(held_out, 1000 + seed), MANY)
        assert test is not None
        shares.append(near_copies(_drawn(50, 2000 + seed), [test]).double().mean())
    assert np.mean(shares) == pytest.approx(nominal, abs=0.015)


@given(st.integers(19, 60), st.integers(0, 20), st.integers(0, 2**31))
def test_copies_are_near_copies_every_one(train: int, held_out: int, seed: int) -> None:
    known = _drawn(train, seed)
    test = CopyTest.of(known, _drawn(held_out, seed + 1), MANY)
    assert test is not None
    assert near_copies(known, [test]).all()
    assert near_copies(known + 1e-4, [test]).all()


def test_pictures_that_are_there_twice_do_not_hide_copies() -> None:
    known = _drawn(30, 0).repeat(2, 1)
    test = CopyTest.of(known, known[:5], MANY)
    assert test is not None
    assert test.limit > 0
    assert near_copies(known, [test]).all()


def test_images_that_are_all_one_set_no_limit() -> None:
    assert CopyTest.of(_drawn(1, 0).expand(40, -1), _drawn(1, 0), MANY) is None


def test_of_many_images_some_set_the_limit() -> None:
    known = _drawn(100, 0)
    whole, some = (CopyTest.of(known, _none(known), most) for most in (100, 40))
    assert whole is not None
    assert some is not None
    assert some.train is known
    assert some.limit != whole.limit


def test_a_copy_of_any_class_counts() -> None:
    tests = [CopyTest.of(_drawn(30, seed) + 5 * seed, _drawn(0, 0), MANY) for seed in range(2)]
    assert all(tests)
    found = near_copies(_drawn(30, 1) + 5, [test for test in tests if test])
    assert found.all()
    assert not near_copies(_drawn(30, 1), []).any()


def test_golden_thumbnail() -> None:
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[0, 0, :2, :2] = torch.tensor([[255, 0], [0, 0]])
    small = thumbnails(image)
    assert small.shape == (1, 64)
    assert small[0, 0] == pytest.approx(0.25)
    assert not small[0, 1:].any()
    assert thumbnails(image[..., :4, :4]).shape == (1, 16)
