"""Named random streams."""

from __future__ import annotations

import random

import numpy as np
import torch

from regl_app.core.seeding import derive_seed, numpy_generator, torch_generator


def test_the_seed_of_a_stream_never_changes() -> None:
    # Golden: a change here would silently change every published number.
    assert derive_seed(0, "train", 3) == 9010243902811717215
    assert derive_seed(1, "train", 3) == 2132838954818720019


def test_names_and_seeds_separate_streams() -> None:
    seeds = {derive_seed(seed, name, 1) for seed in range(5) for name in ("a", "b", "c")}
    assert len(seeds) == 15
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_same_stream_repeats_itself() -> None:
    first = torch.rand(4, generator=torch_generator(3, "x"))
    assert torch.equal(first, torch.rand(4, generator=torch_generator(3, "x")))
    assert not torch.equal(first, torch.rand(4, generator=torch_generator(3, "y")))
    assert numpy_generator(3, "x").integers(1 << 30) == numpy_generator(3, "x").integers(1 << 30)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])  # noqa: NPY002 - the global state is what is watched
    torch.rand(3, generator=torch_generator(0, "x"))
    numpy_generator(0, "x").random(3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002 - likewise
