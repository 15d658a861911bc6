"""Global random state, lent to code that knows no other: dropout, torchvision's transforms.

Everything of ours draws from generators of its own (``core/seeding.py``). What draws from the
process's state does so here: seeded, one thread at a time, and put back as it was.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TURN = threading.RLock()


@contextmanager
def drawing_from(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Have what draws from the global state of CPU and ``device`` draw from ``seed``.

    Threads take turns, so that what one draws does not depend on the others.
    """
    device = torch.device(device)
    cards = [device] if device.type == "cuda" else []
    with _TURN, torch.random.fork_rng(devices=cards):
        torch.default_generator.manual_seed(seed)
        if cards:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
