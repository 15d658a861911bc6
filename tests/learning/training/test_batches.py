"""Which images make up the local steps."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.config.sections import TrainConfig
from regl_app.learning.training.batches import batches, num_steps


def _batches(images: int, config: TrainConfig, seed: int = 0) -> list[torch.Tensor]:
    return list(batches(images, config, torch.Generator().manual_seed(seed)))


@given(images=st.integers(0, 70), steps=st.integers(1, 20), size=st.integers(1, 40))
def test_steps_are_exact_and_full(images: int, steps: int, size: int) -> None:
    config = TrainConfig(steps=steps, batch_size=size)
    drawn = _batches(images, config)
    assert len(drawn) == num_steps(images, config) == (steps if images else 0)
    assert all(len(batch) == min(size, images) for batch in drawn)
    if images:
        seen = torch.bincount(torch.cat(drawn), minlength=images)
        assert seen.max() - seen.min() <= 1  # whole permutations, one after another


@given(images=st.integers(0, 70), epochs=st.integers(1, 4), size=st.integers(1, 40))
def test_epochs_see_each_image_once(images: int, epochs: int, size: int) -> None:
    config = TrainConfig(steps=0, epochs=epochs, batch_size=size)
    drawn = _batches(images, config)
    assert len(drawn) == num_steps(images, config)
    if images:
        assert (torch.bincount(torch.cat(drawn), minlength=images) == epochs).all()


def test_order_follows_the_seed() -> None:
    config = TrainConfig(steps=2, batch_size=8)
    assert torch.equal(_batches(50, config)[0], _batches(50, config)[0])
    assert not torch.equal(_batches(50, config)[0], _batches(50, config, 1)[0])
