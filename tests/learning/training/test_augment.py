"""Random shifts move images, repeat borders and follow their generator."""

from __future__ import annotations

import torch

from regl_app.learning.training.augment import random_shift


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
