"""Lent global random state: seeded, put back, and one thread at a time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch

from regl_app.core.global_random import drawing_from


def test_what_is_drawn_depends_on_the_seed_and_leaves_no_trace() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with drawing_from(1):
        one = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    with drawing_from(1):
        assert torch.equal(torch.rand(3), one)
    with drawing_from(2):
        assert not torch.equal(torch.rand(3), one)


def test_threads_do_not_draw_from_one_anothers() -> None:
    def draw(seed: int) -> list[float]:
        found = []
        with drawing_from(seed):
            for _ in range(5):
                found.append(float(torch.rand(())))
                time.sleep(0.001)
        return found

    alone = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, range(4))) == alone
