"""Which images make up the local steps."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from regl_app.config.sections import TrainConfig
from regl_app.learning.training.batches import batches, drawn_counts, num_steps


def _batches(
    images: int, config: TrainConfig, seed: int = 0, real: int | None = None
) -> list[torch.Tensor]:
    return list(batches(images, config, torch.Generator().manual_seed(seed), real))


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


@given(
    real=st.integers(1, 40),
    synthetic=st.integers(1, 60),
    size=st.integers(1, 40),
    share=st.floats(0, 1),
    epochs=st.booleans(),
)
def test_each_step_keeps_a_share_for_real_images(
    real: int, synthetic: int, size: int, share: float, epochs: bool
) -> None:
    total = real + synthetic
    length = {"steps": 0, "epochs": 2} if epochs else {"steps": 9}
    config = TrainConfig(batch_size=size, real_share=share, **length)
    drawn = _batches(total, config, real=real)
    assert len(drawn) == num_steps(total, config)
    if real >= share * total:  # enough of them come by themselves: nothing changes
        plain = _batches(total, TrainConfig(batch_size=size, **length))
        assert all(map(torch.equal, drawn, plain))
        return
    wanted = min(real, max(1, round(share * min(size, total))))
    for batch in drawn:
        assert (batch < real).sum() == wanted
        assert len(batch) <= min(size, total)
    seen = torch.bincount(torch.cat(drawn), minlength=total)
    assert seen[:real].max() - seen[:real].min() <= 2  # permutations of its own, cut by batches
    assert seen[real:].max() - seen[real:].min() <= 1


def test_synthetic_images_alone_come_as_they_are() -> None:
    config = TrainConfig(steps=3, batch_size=8, real_share=0.5)
    assert all(
        map(
            torch.equal,
            _batches(20, config, real=0),
            _batches(20, TrainConfig(steps=3, batch_size=8)),
        )
    )


def test_label_counts_are_those_that_steps_draw() -> None:
    labels = np.array([0, 0, 0, 1, *[1] * 4, *[2] * 8])  # four real ones, twelve synthetic
    counts, real = np.bincount(labels), np.bincount(labels[:4], minlength=3)
    config = TrainConfig(steps=3, batch_size=8, real_share=0.5)
    seen = torch.cat(_batches(16, config, real=4)).numpy()  # real ones thrice, the others once
    assert np.bincount(labels[seen]).tolist() == [9, 3 + 4, 8]
    found = drawn_counts(counts, real, config)
    assert found is not None
    np.testing.assert_allclose(found, 16 / 24 * np.array([9, 7, 8]))
    assert drawn_counts(counts, real, TrainConfig(steps=3, batch_size=8)) is None
    assert drawn_counts(counts, 0 * real, config) is None
    assert drawn_counts(counts, counts, config) is None


def test_synthetic_images_that_no_step_draws_count_for_nothing() -> None:
    counts, real = np.array([3, 4, 8]), np.array([3, 1, 0])
    found = drawn_counts(counts, real, TrainConfig(steps=3, batch_size=4, real_share=1.0))
    assert found is not None and found.tolist() == [15 * 3 / 4, 15 / 4, 0]
