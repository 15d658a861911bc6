from __future__ import annotations

import numpy as np
import pytest
import torch

from regl_app.learning.evaluation.manifold import density, spread


def _line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def _drawn(count: int, seed: int, *, scale: float = 1.0, mean: float = 0.0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 16, generator=random, dtype=torch.float64) * scale + mean


@pytest.mark.parametrize(("neighbours", "expected"), [(1, 2 / 2), (2, 3 / 4)])
def test_golden_density(neighbours: int, expected: float) -> None:
    # Balls around 0, 1, 3 reach 1, 1, 2 to the nearest other one; 3, 2, 3 to the second.
    # 0.5 lies in two of the first and in all of the second; 10 in none.
    assert density(_line(0, 1, 3), _line(0.5, 10), neighbours) == pytest.approx(expected)


def test_golden_spread() -> None:
    assert spread(_line(0, 1, 3)) == pytest.approx((1 + 3 + 2) / 3)


@pytest.mark.parametrize(("real", "made"), [(10, 10), (10, 100), (100, 10)])
def test_new_draws_of_the_same_kind_are_as_dense_and_as_spread_at_any_number(
    real: int, made: int
) -> None:
    pairs = [(_drawn(real, seed), _drawn(made, 1000 + seed)) for seed in range(300)]
    assert np.mean([density(*pair) for pair in pairs]) == pytest.approx(1.0, abs=0.05)
    ratios = [spread(new) / spread(old) for old, new in pairs]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)


def test_what_lies_elsewhere_is_in_no_ball_and_what_is_central_in_many() -> None:
    real = _drawn(50, 0)
    assert density(real, _drawn(50, 1, mean=10.0)) == 0
    assert density(real, _drawn(50, 2, scale=0.1)) > 2


def test_one_image_over_and_over_has_no_spread() -> None:
    assert spread(_drawn(1, 0).expand(20, -1)) == 0


def test_images_that_are_all_one_have_balls_of_no_size_which_hold_them() -> None:
    one = _drawn(1, 0).expand(12, -1)
    assert density(one, one) == pytest.approx(12 / 3)
